"""Rows of `requests`: one request's beginning, assignment and end.

The gateways end their own rows, so statements here skip rows that somebody holds at the moment.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import SubmitRequest
from libs.common.records.tables import EndpointRow, RequestRow
from libs.common.states import EndpointState, RequestOutcome, RequestState
from services.scheduler.policy.cluster import Endpoint, Model
from services.scheduler.store.ages import age_s
from services.scheduler.store.arrays import is_one_of
from services.scheduler.store.text import storable

# Repeats the condition of the partial index `ix_requests_open`, so that it is used.
IS_OPEN = RequestRow.state != RequestState.ENDED.value
IS_QUEUED = and_(IS_OPEN, RequestRow.state == RequestState.QUEUED.value)
IS_ASSIGNED = and_(IS_OPEN, RequestRow.state == RequestState.ASSIGNED.value)
_COLUMNS = (
    RequestRow.id,
    RequestRow.model_id,
    RequestRow.gateway_id,
    RequestRow.attempt,
    RequestRow.num_crashes,
    RequestRow.state,
    RequestRow.endpoint_id,
    RequestRow.outcome,
    RequestRow.error,
)
# Built once: on the path of every submission, building a statement costs more than running it.
_FIND_LOCKED = select(*_COLUMNS).where(RequestRow.id == bindparam("request_id")).with_for_update()
_ADD = text(
    """
    INSERT INTO requests (id, tenant, model_id, gateway_id, attempt, num_crashes, state,
        num_prompt_tokens, max_tokens, deadline_at)
    VALUES (:id, :tenant, :model_id, :gateway_id, :attempt, :num_crashes, 'QUEUED',
        :num_prompt_tokens, :max_tokens, now() + make_interval(secs => :remaining_s))
    ON CONFLICT DO NOTHING RETURNING id
    """
)


@dataclass(frozen=True)
class Request:
    id: str
    model_id: str
    gateway_id: str
    attempt: int
    num_crashes: int
    state: RequestState
    endpoint_id: str | None
    outcome: RequestOutcome | None
    error: str | None


async def find_locked(session: AsyncSession, request_id: str) -> Request | None:
    row = (await session.execute(_FIND_LOCKED, {"request_id": request_id})).one_or_none()
    return None if row is None else _request(row._mapping)


async def add(
    session: AsyncSession, message: SubmitRequest, model: Model, num_crashes: int
) -> bool:
    """Queue a new request; False when its row has come from the gateway meanwhile."""
    values = {
        "id": message.request_id,
        "tenant": model.tenant,
        "model_id": message.model_id,
        "gateway_id": message.gateway_id,
        "attempt": message.attempt,
        "num_crashes": num_crashes,
        "num_prompt_tokens": message.num_prompt_tokens,
        "max_tokens": message.max_tokens,
        "remaining_s": message.remaining_ms / 1000,
    }
    return (await session.execute(_ADD, values)).first() is not None


async def queue_again(
    session: AsyncSession, request_id: str, attempt: int, num_crashes: int
) -> None:
    """It keeps its place by arrival, its deadline, and when it was assigned first."""
    await session.execute(
        update(RequestRow)
        .where(RequestRow.id == request_id)
        .values(
            state=RequestState.QUEUED.value,
            attempt=attempt,
            num_crashes=num_crashes,
            endpoint_id=None,
        )
    )


async def end(
    session: AsyncSession, request_ids: Collection[str], outcome: RequestOutcome, error: str | None
) -> None:
    if not request_ids:
        return
    await session.execute(
        update(RequestRow)
        .where(is_one_of(RequestRow.id, request_ids), IS_OPEN)
        .values(
            state=RequestState.ENDED.value,
            outcome=outcome.value,
            error=storable(error),
            ended_at=func.now(),
        )
    )


async def assign(session: AsyncSession, request_ids: Sequence[str], endpoint: Endpoint) -> None:
    """A request that arrived before the endpoint was ready waited for its cold start."""
    ready_at = (
        select(func.coalesce(EndpointRow.ready_at, func.now()))
        .where(EndpointRow.id == endpoint.id)
        .scalar_subquery()
    )
    waited_for = case(
        (RequestRow.arrived_at < ready_at, endpoint.cold_start_id), else_=RequestRow.cold_start_id
    )
    await session.execute(
        update(RequestRow)
        .where(is_one_of(RequestRow.id, request_ids))
        .values(
            state=RequestState.ASSIGNED.value,
            endpoint_id=endpoint.id,
            assigned_at=func.coalesce(RequestRow.assigned_at, func.now()),
            cold_start_id=waited_for,
        )
    )


async def load_expired(session: AsyncSession, grace_s: float) -> list[Request]:
    """Queued past their deadline, or assigned and past it by `grace_s` more: nobody ended them."""
    overdue_s = age_s(RequestRow.deadline_at)
    is_expired = or_(and_(IS_QUEUED, overdue_s > 0), and_(IS_ASSIGNED, overdue_s > grace_s))
    return await _load_locked(session, is_expired)


async def load_queued_of(session: AsyncSession, model_ids: Collection[str]) -> list[Request]:
    return await _load_locked(session, and_(IS_QUEUED, is_one_of(RequestRow.model_id, model_ids)))


async def load_stranded(session: AsyncSession, model_id: str) -> list[Request]:
    """Queued, or given to an endpoint that failed."""
    failed = select(EndpointRow.id).where(
        EndpointRow.model_id == model_id, EndpointRow.state == EndpointState.FAILED.value
    )
    is_stranded = or_(IS_QUEUED, and_(IS_ASSIGNED, RequestRow.endpoint_id.in_(failed)))
    return await _load_locked(session, and_(RequestRow.model_id == model_id, is_stranded))


async def load_of_gateways(session: AsyncSession, gateway_ids: Collection[str]) -> list[Request]:
    return await _load_locked(session, and_(IS_OPEN, is_one_of(RequestRow.gateway_id, gateway_ids)))


async def load_of_ids(session: AsyncSession, request_ids: Collection[str]) -> list[Request]:
    return await _load_locked(session, and_(IS_OPEN, is_one_of(RequestRow.id, request_ids)))


async def load_gateway_ids(session: AsyncSession) -> frozenset[str]:
    """Gateways that have open requests."""
    rows = await session.scalars(select(RequestRow.gateway_id).where(IS_OPEN).distinct())
    return frozenset(rows)


async def load_ids_by_gateway(session: AsyncSession) -> dict[str, frozenset[str]]:
    """Open requests of every gateway."""
    query = select(RequestRow.gateway_id, func.array_agg(RequestRow.id).label("ids"))
    rows = await session.execute(query.where(IS_OPEN).group_by(RequestRow.gateway_id))
    return {row.gateway_id: frozenset(row.ids) for row in rows}


async def _load_locked(session: AsyncSession, condition: ColumnElement[bool]) -> list[Request]:
    query = select(*_COLUMNS).where(condition).with_for_update(skip_locked=True)
    return [_request(row._mapping) for row in await session.execute(query)]


def _request(row: RowMapping) -> Request:
    outcome = RequestOutcome(row["outcome"]) if row["outcome"] else None
    return Request(**{**row, "state": RequestState(row["state"]), "outcome": outcome})
