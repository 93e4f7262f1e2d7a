"""Gives queued requests to endpoints with free slots, first come first."""

from collections import defaultdict
from collections.abc import Mapping

from libs.common.bus.messages import RequestAssigned
from libs.common.bus.subjects import REQUEST_ASSIGNED
from libs.common.states import EndpointState
from services.scheduler.policy.cluster import Demand, Endpoint
from services.scheduler.policy.slot_assignment import Slots, distribute
from services.scheduler.policy.unconfirmed_losses import Doubts
from services.scheduler.rounds.round import Round
from services.scheduler.store import queue, requests
from services.scheduler.store.queue import Queued


async def assign_queued(
    round_: Round, fleet: tuple[Endpoint, ...], demands: Mapping[str, Demand], doubts: Doubts
) -> dict[str, int]:
    """How many requests of each model were given to an endpoint."""
    by_model = defaultdict(list)
    for endpoint in fleet:
        by_model[endpoint.model_id].append(endpoint)
    num_assigned = {}
    for model_id, demand in demands.items():
        slots = [_slots(round_, e) for e in by_model[model_id] if _is_open(round_, e, doubts)]
        if demand.num_queued and any(place.num_free > 0 for place in slots):
            num_assigned[model_id] = await _assign(round_, model_id, by_model[model_id], slots)
    return num_assigned


async def _assign(
    round_: Round, model_id: str, endpoints: list[Endpoint], slots: list[Slots]
) -> int:
    queued = await _candidates(round_, model_id, sum(place.num_free for place in slots))
    requests_by_id = {request.id: request for request in queued}
    endpoints_by_id = {endpoint.id: endpoint for endpoint in endpoints}
    given = defaultdict(list)
    for assignment in distribute(list(requests_by_id), slots):
        given[assignment.endpoint_id].append(requests_by_id[assignment.request_id])
    for endpoint_id, group in given.items():
        await _give(round_, endpoints_by_id[endpoint_id], group)
    return sum(map(len, given.values()))


async def _candidates(round_: Round, model_id: str, num_free: int) -> list[Queued]:
    """At most one request that was there when an endpoint died: it may be what killed it."""
    suspects: list[Queued] = []
    if not await queue.has_assigned_suspect(round_.session, model_id):
        suspects = await queue.lock_queued(round_.session, model_id, 1, is_suspect=True)
    others = await queue.lock_queued(round_.session, model_id, num_free, is_suspect=False)
    return [*suspects, *others]


async def _give(round_: Round, endpoint: Endpoint, group: list[Queued]) -> None:
    ids = [request.id for request in group]
    await requests.assign(round_.session, ids, endpoint)
    for request in group:
        message = RequestAssigned(
            request_id=request.id,
            attempt=request.attempt,
            endpoint_id=endpoint.id,
            epoch=endpoint.epoch,
        )
        round_.send(REQUEST_ASSIGNED, request.id, message)


def _is_open(round_: Round, endpoint: Endpoint, doubts: Doubts) -> bool:
    if not endpoint.state.can_take_requests or doubts.is_doubted(endpoint.id):
        return False
    if not all(worker.is_launch_due for worker in endpoint.workers[:1]):
        return False  # nobody would listen before its weights are there
    # Who serves was seen by this leader; what has just been planned cannot have been.
    return endpoint.state is EndpointState.STARTING or round_.observed.entry(endpoint) is not None


def _slots(round_: Round, endpoint: Endpoint) -> Slots:
    entry = round_.observed.entry(endpoint)
    num_observed = entry.num_running + entry.num_waiting if entry is not None else 0
    num_free = endpoint.max_slots - max(endpoint.num_assigned, num_observed)
    return Slots(endpoint.id, endpoint.state.is_serving, max(num_free, 0))
