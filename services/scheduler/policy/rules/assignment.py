"""Gives queued requests to endpoints with free slots, first come first. Pure."""

from collections.abc import Iterator

from libs.common.states import EndpointState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Endpoint, OpenRequest
from services.scheduler.policy.slot_assignment import Slots, distribute
from services.scheduler.policy.snapshot import Snapshot


def assign_queued(snapshot: Snapshot, model_id: str) -> Iterator[d.Decision]:
    endpoints = snapshot.endpoints.by("model", model_id)
    slots = [_slots(snapshot, e) for e in endpoints if _is_open(snapshot, e)]
    num_free = sum(place.num_free for place in slots)
    if num_free == 0:
        return
    candidates = {r.id: r for r in _candidates(snapshot, model_id, num_free)}
    for given in distribute(list(candidates), slots):
        request = candidates[given.request_id]
        yield d.AssignRequest(model_id, request.id, request.attempt, given.endpoint_id)


def _candidates(snapshot: Snapshot, model_id: str, num_free: int) -> list[OpenRequest]:
    """At most one request that was there when an endpoint died: it may be what killed it."""
    queued = snapshot.queued(model_id)
    suspects = [request for request in queued if request.num_crashes > 0]
    others = [request for request in queued if request.num_crashes == 0]
    num_suspects = 0 if _runs_suspect(snapshot, model_id) else 1
    return [*suspects[:num_suspects], *others[:num_free]]


def _runs_suspect(snapshot: Snapshot, model_id: str) -> bool:
    """Whether a request that already survived a crash is running for this model."""
    for request in snapshot.requests.by("model", model_id):
        if request.is_queued or request.num_crashes == 0:
            continue
        endpoint = snapshot.endpoints.get(request.endpoint_id)
        if endpoint is not None and not endpoint.state.is_finished:
            return True
    return False


def _is_open(snapshot: Snapshot, endpoint: Endpoint) -> bool:
    entry = endpoint.entry
    if not endpoint.state.can_take_requests or snapshot.has_unconfirmed_loss(endpoint.id):
        return False
    if entry is None or not entry.is_launch_due:
        return False  # nobody would listen before its weights are there
    # Who serves was seen by this leader; what has just been planned cannot have been.
    is_starting = endpoint.state is EndpointState.STARTING
    return is_starting or snapshot.observed.entry(endpoint) is not None


def _slots(snapshot: Snapshot, endpoint: Endpoint) -> Slots:
    entry = snapshot.observed.entry(endpoint)
    num_observed = entry.num_running + entry.num_waiting if entry is not None else 0
    num_free = endpoint.max_slots - max(snapshot.num_assigned(endpoint.id), num_observed)
    return Slots(endpoint.id, endpoint.state.is_serving, max(num_free, 0))
