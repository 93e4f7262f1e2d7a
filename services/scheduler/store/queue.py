"""The queue of every model: who waits, in which order, and for what. Reads rows of `requests`."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.tables import RequestRow
from services.scheduler.observation.queued_requests import Queue
from services.scheduler.store.columns.arrays import is_among, is_one_of
from services.scheduler.store.requests import IS_QUEUED

_FIRST_COME = (RequestRow.arrived_at, RequestRow.id)

_QUEUES = select(RequestRow.id, RequestRow.model_id, RequestRow.tenant).where(IS_QUEUED)
_OWN = (
    select(RequestRow.model_id, RequestRow.arrived_at)
    .where(RequestRow.id == bindparam("request_id"))
    .subquery()
)
# Built once, as what every waiting request asks every two seconds.
_NUM_BEFORE = select(func.count()).where(
    RequestRow.model_id == _OWN.c.model_id, IS_QUEUED, RequestRow.arrived_at < _OWN.c.arrived_at
)


_ARRIVALS = select(RequestRow.id, RequestRow.arrived_at).where(
    is_among(RequestRow.id, "request_ids")
)


async def load_queues(session: AsyncSession) -> dict[str, Queue]:
    """Where each request waits that does: for whoever counts them from then on."""
    return {
        id_: Queue(model_id, tenant) for id_, model_id, tenant in await session.execute(_QUEUES)
    }


async def queue_position(session: AsyncSession, request_id: str) -> int:
    """Queued requests of its model that arrived earlier."""
    return await session.scalar(_NUM_BEFORE, {"request_id": request_id}) or 0


async def load_queue_positions(
    session: AsyncSession, request_ids: Collection[str]
) -> dict[str, int]:
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


async def arrivals(session: AsyncSession, request_ids: Collection[str]) -> dict[str, datetime]:
    """When each of these requests arrived."""
    if not request_ids:
        return {}
    rows = await session.execute(_ARRIVALS, {"request_ids": list(request_ids)})
    return {row.id: row.arrived_at for row in rows}
