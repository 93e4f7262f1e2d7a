"""Ends requests that nobody will serve: overdue, of lost gateways, of gone or failing models. Pure.

Their clients learn why, at once.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from libs.common.reasons import Reason
from services.scheduler.policy import decisions as d
from services.scheduler.policy import refusals
from services.scheduler.policy.cluster import OpenRequest
from services.scheduler.policy.failures.request_losses import why_no_more_attempts
from services.scheduler.policy.refusals import Refusal
from services.scheduler.policy.snapshot import Snapshot


@dataclass(frozen=True)
class GatewayView:
    """What a sweep needs of the gateways, made once for all requests."""

    lost: frozenset[str]
    listed: Mapping[str, frozenset[str]]  # request ids by gateway, as it said last

    @classmethod
    def of(cls, snapshot: Snapshot) -> "GatewayView":
        gateways = snapshot.gateways
        return cls(
            frozenset(id_ for id_ in snapshot.requests.keys_of("gateway") if gateways.is_lost(id_)),
            {id_: frozenset(beat.request_ids) for id_, beat in snapshot.observed.gateways.items()},
        )


def perhaps_abandoned(snapshot: Snapshot, view: GatewayView) -> dict[str, list[str]]:
    """Ids of requests by model: whose deadline or gateway is gone, which their gateway does not
    list, or did not before. Of all others `end_abandoned` would decide nothing."""
    requests, found = snapshot.requests, set(snapshot.unlisted_since_s)
    for second in requests.keys_of("end"):
        if int(second) <= snapshot.now_s:
            found.update(requests.ids("end", second))
    for gateway_id in requests.keys_of("gateway"):
        ids, listed = requests.ids("gateway", gateway_id), view.listed.get(gateway_id)
        if gateway_id in view.lost:
            found.update(ids)
        elif listed is not None:
            found.update([id_ for id_ in ids if id_ not in listed])
    by_model: defaultdict[str, list[str]] = defaultdict(list)
    for id_ in requests.in_order(found):
        by_model[requests[id_].model_id].append(id_)
    return by_model


def end_abandoned(
    snapshot: Snapshot, request_ids: Iterable[str], view: GatewayView
) -> Iterator[d.Decision]:
    """Those of a model's requests whose deadline, or whose gateway, is gone."""
    for request in map(snapshot.requests.__getitem__, request_ids):
        if request.gateway_id in view.lost:
            message = "its gateway has ended, or is cut off"
            yield _end(request, Refusal(Reason.GATEWAY_LOST, message))
        elif snapshot.now_s > request.ends_at_s:
            yield _end(request, _overdue(snapshot, request))
        elif request.gateway_id in view.listed:
            is_listed = request.id in view.listed[request.gateway_id]
            yield from _listing(snapshot, request, is_listed=is_listed)


def _overdue(snapshot: Snapshot, request: OpenRequest) -> Refusal:
    message = "the request's deadline passed"
    if not request.is_queued:
        return Refusal(Reason.DEADLINE_EXCEEDED, message)
    failure = snapshot.last_failure(request.model_id)
    last = f"; the model's last failure: {failure.cause}" if failure else ""
    reason = snapshot.waits_for(request.model_id) or Reason.DEADLINE_EXCEEDED
    return Refusal(reason, f"{message} while it waited for an endpoint{last}")


def _listing(snapshot: Snapshot, request: OpenRequest, *, is_listed: bool) -> Iterator[d.Decision]:
    """A gateway that lives but does not list a request for long has forgotten it."""
    since_s = snapshot.unlisted_since_s.get(request.id)
    if is_listed:
        if since_s is not None:
            yield d.NoteUnlisted(request.model_id, request.id, is_listed=True)
    elif since_s is None:
        yield d.NoteUnlisted(request.model_id, request.id, is_listed=False)
    elif snapshot.now_s - since_s >= snapshot.limits.unlisted_s:
        message = "the gateway does not know the request any more"
        yield _end(request, Refusal(Reason.GATEWAY_LOST, message))


def end_of_gone_model(snapshot: Snapshot, model_id: str) -> Iterator[d.Decision]:
    """Deleted, not imported after all, or imported again while nothing of it lives."""
    endpoints = snapshot.endpoints.by("model", model_id)
    is_living = any(endpoint.state.can_take_requests for endpoint in endpoints)
    refusal = refusals.of_state(snapshot.models.get(model_id), is_living=is_living)
    if refusal is not None:
        yield from refuse(snapshot.queued(model_id), refusal)


def end_of_crashed(snapshot: Snapshot, model_id: str) -> Iterator[d.Decision]:
    """Whatever they delivered: a request that brings down its engine must not bring down all."""
    for request in snapshot.requests.by("lossy", model_id):
        message = why_no_more_attempts(request)
        if message is not None:
            yield _end(request, Refusal(Reason.WORKER_CRASHED, message))


def end_of_failing_model(snapshot: Snapshot, model_id: str) -> Iterator[d.Decision]:
    """While a model backs off and nothing of it lives, new requests are refused; so are those that
    waited, and those that its failed start was given."""
    model = snapshot.models.get(model_id)
    endpoints = snapshot.endpoints.by("model", model_id)
    if model is None or not model.backs_off(snapshot.now_s):
        return
    if any(endpoint.state.can_take_requests for endpoint in endpoints):
        return
    failure = snapshot.last_failure(model_id)
    cause = None if failure is None else failure.cause
    refusal = refusals.of_backoff(model, cause, snapshot.now_s)
    if refusal is not None:
        requests = snapshot.requests.by("model", model_id)
        stranded = [request for request in requests if snapshot.is_stranded(request)]
        yield from refuse(stranded, refusal)


def refuse(requests: Iterable[OpenRequest], refusal: Refusal) -> Iterator[d.EndRequest]:
    return (_end(request, refusal) for request in requests)


def _end(request: OpenRequest, refusal: Refusal) -> d.EndRequest:
    return d.EndRequest(
        request.model_id,
        request.id,
        request.attempt,
        request.endpoint_id,
        refusal.reason,
        refusal.message,
        refusal.retry_after_s,
    )
