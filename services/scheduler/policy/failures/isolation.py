"""Which requests go on alone for a while, because each may be what crashes engines. Pure.

After a first crash all requests of the engine go on together. Those that were there at a second one
go on alone, one after the other, each until its next token is out, and then in company again: a
request that crashes an engine whenever it runs is found so, and the others lose little time.
"""

from collections.abc import Iterator

from libs.common.states import LossKind
from services.scheduler.policy.cluster import OpenRequest
from services.scheduler.policy.snapshot import Snapshot

ALONE_AFTER_CRASHES = 2


def must_be_alone(request: OpenRequest) -> bool:
    """A loss that nobody knows the cause of yet may be the second crash."""
    is_undecided = any(loss.kind is None for loss in request.losses)
    num_possible = request.num_engine_crashes + is_undecided
    return request.num_engine_crashes > 0 and num_possible >= ALONE_AFTER_CRASHES


def queued_in_order(snapshot: Snapshot, model_id: str) -> list[OpenRequest]:
    """Those that must go on alone: whose attempts crashed without a token come first, for whoever
    has been let into company since would be there at the next crash. Of those that were there at
    a third one, too, who was let in last comes first: it crashed soon after."""
    waiting = [request for request in snapshot.queued(model_id) if must_be_alone(request)]
    again = [request for request in waiting if request.num_engine_crashes > ALONE_AFTER_CRASHES]
    others = [request for request in waiting if request.num_engine_crashes <= ALONE_AFTER_CRASHES]
    in_order = (*reversed(again), *others)
    return sorted(in_order, key=lambda request: -_num_crashes_without_token(request))


def endpoints_taken(snapshot: Snapshot, model_id: str) -> Iterator[str]:
    """Endpoints on which a request is alone now: nobody else is sent there."""
    for request in snapshot.requests.by("crashed", model_id):
        endpoint = snapshot.endpoints.get(request.endpoint_id)
        if endpoint is None or endpoint.state.is_finished:
            continue
        if must_be_alone(request) and not _has_progressed(snapshot, request):
            yield endpoint.id


def all_endpoints_taken(snapshot: Snapshot) -> frozenset[str]:
    """Of every model."""
    model_ids = snapshot.requests.keys_of("crashed")
    return frozenset(id_ for model_id in model_ids for id_ in endpoints_taken(snapshot, model_id))


def _has_progressed(snapshot: Snapshot, request: OpenRequest) -> bool:
    """Whether its gateway has had a token of the attempt that runs."""
    gateway = snapshot.observed.gateways.get(request.gateway_id)
    return gateway is not None and gateway.progressed.get(request.id) == request.attempt


def _num_crashes_without_token(request: OpenRequest) -> int:
    kinds = (None, LossKind.ENGINE_CRASH)
    return sum(loss.kind in kinds and not loss.has_progressed for loss in request.losses)
