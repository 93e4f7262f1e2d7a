"""What becomes of requests, in rows, and what their gateways are told of it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from libs.common.bus.messages import CancelRequest, RequestAssigned, RequestRefused
from libs.common.bus.subjects import ENDPOINT_CANCEL, REQUEST_ASSIGNED, REQUEST_REFUSED
from libs.common.reasons import Reason
from libs.common.states import EndpointState, LossKind
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.rounds.batches.batch_state import BatchState
from services.scheduler.rounds.outgoing import Outgoing
from services.scheduler.store import request_losses, requests
from services.scheduler.store.requests import Assignment


async def assign_requests(batch: BatchState, decisions: Sequence[d.AssignRequest]) -> None:
    if not decisions:
        return
    endpoints = {x.endpoint_id: batch.endpoint(x.endpoint_id) for x in decisions}
    given = await requests.assign(
        batch.session,
        [
            Assignment(
                x.request_id, x.attempt, x.endpoint_id, endpoints[x.endpoint_id].cold_start_id
            )
            for x in decisions
        ],
    )
    for decision in decisions:
        if decision.request_id in given:
            outgoing = _assigned(decision, endpoints[decision.endpoint_id])
            batch.applied.outgoing.append(outgoing)
        else:
            batch.drop(decision, "the request has moved on")


def _assigned(decision: d.AssignRequest, endpoint: Endpoint) -> Outgoing:
    message = RequestAssigned(
        request_id=decision.request_id,
        attempt=decision.attempt,
        endpoint_id=endpoint.id,
        epoch=endpoint.epoch,
        is_starting=endpoint.state is EndpointState.STARTING,
    )
    return Outgoing(REQUEST_ASSIGNED, decision.request_id, message)


async def count_losses(batch: BatchState, decisions: Sequence[d.CountLoss]) -> None:
    by_kind: defaultdict[LossKind, list[d.CountLoss]] = defaultdict(list)
    for decision in decisions:
        by_kind[decision.kind].append(decision)
    for kind, group in by_kind.items():
        losses = [(x.request_id, x.endpoint_id) for x in group]
        counted = await request_losses.count(batch.session, losses, kind)
        for decision in group:
            if (decision.request_id, decision.endpoint_id) not in counted:
                batch.drop(decision, "the request has ended, or moves at this moment")


async def end_requests(batch: BatchState, decisions: Sequence[d.EndRequest]) -> None:
    groups: defaultdict[tuple[Reason, str], list[d.EndRequest]] = defaultdict(list)
    for decision in decisions:
        groups[decision.reason, decision.message].append(decision)
    for (reason, message), group in groups.items():
        ids = [decision.request_id for decision in group]
        ended = await requests.end(batch.session, ids, reason.row.outcome, message)
        for decision in group:
            if decision.request_id in ended:
                batch.applied.outgoing += _ended(batch, decision)
            else:
                batch.drop(decision, "the request has ended, or moves at this moment")


def _ended(batch: BatchState, decision: d.EndRequest) -> Iterator[Outgoing]:
    refusal = RequestRefused(
        request_id=decision.request_id,
        attempt=decision.attempt,
        code=decision.reason,
        message=decision.message,
        retry_after_s=decision.retry_after_s,
    )
    yield Outgoing(REQUEST_REFUSED, decision.request_id, refusal)
    if decision.endpoint_id is not None:
        # Where no gateway is left to do it; if this is lost, the worker's own deadline ends it.
        cancel = CancelRequest(
            request_id=decision.request_id,
            attempt=decision.attempt,
            unread_ms=_unread_ms(batch, decision.request_id),
        )
        yield Outgoing(ENDPOINT_CANCEL, decision.endpoint_id, cancel)


def _unread_ms(batch: BatchState, request_id: str) -> int | None:
    before = batch.context.before
    request = before.requests.get(request_id)
    unread_s = before.gateways.unread_s(request.gateway_id) if request is not None else None
    return None if unread_s is None else int(1000 * unread_s)
