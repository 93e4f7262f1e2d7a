"""The queue of every model: who waits, in which order, and for what. Reads rows of `requests`."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import and_, bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.tables import EndpointRow, RequestRow
from libs.common.states import EndpointState, RequestState
from services.scheduler.policy.cluster import Demand
from services.scheduler.policy.gateway_liveness import Gateways
from services.scheduler.store.ages import age_s
from services.scheduler.store.arrays import is_one_of
from services.scheduler.store.requests import IS_ASSIGNED, IS_OPEN, IS_QUEUED

# How long a failed endpoint's requests count as demand before their gateways have come again.
ORPHAN_S = 30.0
_FIRST_COME = (RequestRow.arrived_at, RequestRow.id)
_FINISHED = (EndpointState.STOPPED.value, EndpointState.FAILED.value)


_NUM_QUEUED = select(func.count()).where(RequestRow.model_id == bindparam("model_id"), IS_QUEUED)
_OWN = (
    select(RequestRow.model_id, RequestRow.arrived_at)
    .where(RequestRow.id == bindparam("request_id"))
    .subquery()
)
# Built once, as what every waiting request asks every two seconds.
_NUM_BEFORE = select(func.count()).where(
    RequestRow.model_id == _OWN.c.model_id, IS_QUEUED, RequestRow.arrived_at < _OWN.c.arrived_at
)
_WAITS = RequestRow.state == RequestState.QUEUED.value
_IS_ORPHANED = and_(
    IS_ASSIGNED,
    EndpointRow.state == EndpointState.FAILED.value,
    age_s(EndpointRow.ended_at) < ORPHAN_S,
)
_DEMAND = (
    select(
        RequestRow.model_id,
        RequestRow.gateway_id,
        func.count().filter(_WAITS).label("num_queued"),
        func.count().filter(_IS_ORPHANED).label("num_orphaned"),
        func.max(age_s(RequestRow.arrived_at)).label("waited_s"),
    )
    .join(EndpointRow, EndpointRow.id == RequestRow.endpoint_id, isouter=True)
    .where(IS_OPEN, or_(_WAITS, _IS_ORPHANED))
    .group_by(RequestRow.model_id, RequestRow.gateway_id)
)


@dataclass(frozen=True)
class Queued:
    id: str
    attempt: int


@dataclass(frozen=True)
class FirstInLine:
    id: str
    arrived_at: datetime


@dataclass(frozen=True)
class Waiting:
    """An open request without a token yet, as far as rows tell."""

    id: str
    model_id: str
    endpoint_id: str | None
    position: int  # among the queued ones of its model; 0 once assigned


async def num_queued(session: AsyncSession, model_id: str) -> int:
    return await session.scalar(_NUM_QUEUED, {"model_id": model_id}) or 0


async def num_before(session: AsyncSession, request_id: str) -> int:
    """Queued requests of its model that arrived earlier."""
    return await session.scalar(_NUM_BEFORE, {"request_id": request_id}) or 0


async def load_places(session: AsyncSession, request_ids: Collection[str]) -> dict[str, int]:
    """How many of its model wait before each of these that is queued."""
    theirs = select(RequestRow.model_id).where(is_one_of(RequestRow.id, request_ids))
    place = func.row_number().over(partition_by=RequestRow.model_id, order_by=_FIRST_COME)
    waiting = (
        select(RequestRow.id, place.label("place"))
        .where(IS_QUEUED, RequestRow.model_id.in_(theirs))
        .subquery()
    )
    query = select(waiting).where(is_one_of(waiting.c.id, request_ids))
    return {row.id: row.place - 1 for row in await session.execute(query)}


async def load_demand(session: AsyncSession, gateways: Gateways) -> dict[str, Demand]:
    """Of every model that has waiting requests. Those of a lost gateway are nobody's."""
    demands: dict[str, Demand] = {}
    for row in await session.execute(_DEMAND):
        so_far = demands.get(row.model_id, Demand())
        if gateways.is_heard(row.gateway_id):
            so_far = replace(
                so_far,
                num_queued=so_far.num_queued + row.num_queued,
                num_orphaned=so_far.num_orphaned + row.num_orphaned,
                waited_s=max(so_far.waited_s, row.waited_s),
            )
        elif not gateways.is_lost(row.gateway_id):
            num_rows = row.num_queued + row.num_orphaned
            so_far = replace(so_far, num_unheard=so_far.num_unheard + num_rows)
        demands[row.model_id] = so_far
    return demands


async def first_in_line(session: AsyncSession, model_id: str) -> FirstInLine | None:
    """The request whose wait makes a start necessary: queued, or left by an endpoint that ended."""
    query = (
        select(RequestRow.id, RequestRow.arrived_at)
        .join(EndpointRow, EndpointRow.id == RequestRow.endpoint_id, isouter=True)
        .where(RequestRow.model_id == model_id, IS_OPEN, or_(_WAITS, _IS_ORPHANED))
    )
    row = (await session.execute(query.order_by(*_FIRST_COME).limit(1))).one_or_none()
    return None if row is None else FirstInLine(row.id, row.arrived_at)


async def lock_queued(
    session: AsyncSession, model_id: str, limit: int, *, is_suspect: bool
) -> list[Queued]:
    """The model's first queued requests; suspects are those that were at a crash."""
    crashed = RequestRow.num_crashes > 0 if is_suspect else RequestRow.num_crashes == 0
    query = (
        select(RequestRow.id, RequestRow.attempt)
        .where(RequestRow.model_id == model_id, IS_QUEUED, crashed)
        .order_by(*_FIRST_COME)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [Queued(row.id, row.attempt) for row in await session.execute(query)]


async def has_assigned_suspect(session: AsyncSession, model_id: str) -> bool:
    """Whether a request that already survived a crash is running for this model."""
    query = select(RequestRow.id).where(
        RequestRow.model_id == model_id, IS_ASSIGNED, RequestRow.num_crashes > 0
    )
    query = query.join(EndpointRow, EndpointRow.id == RequestRow.endpoint_id).where(
        EndpointRow.state.not_in(_FINISHED)
    )
    return await session.scalar(query.limit(1)) is not None


async def load_waiting(session: AsyncSession) -> list[Waiting]:
    """Queued requests, those assigned to an endpoint that still starts, and those whose endpoint
    failed: their gateways learn from it that they wait again."""
    place = func.row_number().over(
        partition_by=(RequestRow.model_id, RequestRow.state),
        order_by=(RequestRow.arrived_at, RequestRow.id),
    )
    is_starting = and_(IS_ASSIGNED, EndpointRow.state == EndpointState.STARTING.value)
    is_queued = RequestRow.state == RequestState.QUEUED.value
    query = (
        select(RequestRow.id, RequestRow.model_id, RequestRow.endpoint_id, place.label("place"))
        .join(EndpointRow, EndpointRow.id == RequestRow.endpoint_id, isouter=True)
        .where(IS_OPEN, or_(is_queued, is_starting, _IS_ORPHANED))
    )
    return [
        Waiting(row.id, row.model_id, row.endpoint_id, 0 if row.endpoint_id else row.place - 1)
        for row in await session.execute(query)
    ]
