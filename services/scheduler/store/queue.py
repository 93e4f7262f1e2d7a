"""The queue of every model: who waits, in which order, and for what. Reads rows of `requests`."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.tables import RequestRow
from services.scheduler.store.arrays import is_one_of
from services.scheduler.store.requests import IS_QUEUED

_FIRST_COME = (RequestRow.arrived_at, RequestRow.id)


_COUNTS = (
    select(RequestRow.model_id, RequestRow.tenant, func.count())
    .where(IS_QUEUED)
    .group_by(RequestRow.model_id, RequestRow.tenant)
)
_OWN = (
    select(RequestRow.model_id, RequestRow.arrived_at)
    .where(RequestRow.id == bindparam("request_id"))
    .subquery()
)
# Built once, as what every waiting request asks every two seconds.
_NUM_BEFORE = select(func.count()).where(
    RequestRow.model_id == _OWN.c.model_id, IS_QUEUED, RequestRow.arrived_at < _OWN.c.arrived_at
)


@dataclass(frozen=True)
class NumQueued:
    """Requests that wait, in all gateways together."""

    of_model: int
    of_tenant: int
    of_all: int


@dataclass
class QueueCounts:
    of_models: Counter[str]
    of_tenants: Counter[str]

    def num_queued(self, model_id: str, tenant: str) -> NumQueued:
        return NumQueued(self.of_models[model_id], self.of_tenants[tenant], self.of_tenants.total())

    def add(self, model_id: str, tenant: str, count: int = 1) -> None:
        self.of_models[model_id] += count
        self.of_tenants[tenant] += count


async def load_counts(session: AsyncSession) -> QueueCounts:
    counts = QueueCounts(Counter(), Counter())
    for model_id, tenant, count in await session.execute(_COUNTS):
        counts.add(model_id, tenant, count)
    return counts


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


async def arrived_at(session: AsyncSession, request_id: str) -> datetime | None:
    return await session.scalar(select(RequestRow.arrived_at).where(RequestRow.id == request_id))
