"""Gives queued requests to endpoints with free slots, first come first. Pure."""

from collections.abc import Collection, Iterator, Sequence

from libs.common.states import EndpointState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Endpoint, OpenRequest
from services.scheduler.policy.failures import isolation
from services.scheduler.policy.slot_assignment import Slots, distribute
from services.scheduler.policy.snapshot import Snapshot


def assign_queued(snapshot: Snapshot, model_id: str) -> Iterator[d.Decision]:
    if not snapshot.queued(model_id):
        return
    endpoints = snapshot.endpoints.by("model", model_id)
    slots = [_slots(snapshot, e) for e in endpoints if _is_open(snapshot, e)]
    slots = [place for place in slots if place.num_free > 0]
    if not slots:
        return
    taken = set(isolation.endpoints_taken(snapshot, model_id))
    alone = isolation.queued_in_order(snapshot, model_id)
    place = None if taken else _place_alone(snapshot, alone, slots)
    if place is not None:
        taken.add(place.endpoint_id)
        if place.is_serving:
            yield _assignment(alone[0], place.endpoint_id)
    others = [place for place in slots if place.endpoint_id not in taken]
    yield from _assign_others(snapshot, model_id, alone, others)


def _place_alone(
    snapshot: Snapshot, alone: Sequence[OpenRequest], slots: Sequence[Slots]
) -> Slots | None:
    """Where the first of those goes that must be alone: where it endangers the fewest. An endpoint
    that starts is kept for it: a crash before that serves would count against the model."""
    if not alone:
        return None
    return min(slots, key=lambda place: snapshot.num_assigned(place.endpoint_id))


def _assign_others(
    snapshot: Snapshot, model_id: str, alone: Collection[OpenRequest], slots: Sequence[Slots]
) -> Iterator[d.Decision]:
    num_free = sum(place.num_free for place in slots)
    kept = {request.id for request in alone}
    others = [request for request in snapshot.queued(model_id) if request.id not in kept]
    candidates = {request.id: request for request in others[:num_free]}
    for given in distribute(list(candidates), slots):
        yield _assignment(candidates[given.request_id], given.endpoint_id)


def _assignment(request: OpenRequest, endpoint_id: str) -> d.AssignRequest:
    return d.AssignRequest(request.model_id, request.id, request.attempt, endpoint_id)


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
