"""The servers: what memory they have and what of it is reserved, and what their fetchers hold.

Nodes belong to no tenant, so totals are shown to every key, and workers only to their own tenant.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.database import Database
from libs.common.records.tables import (
    EndpointRow,
    GpuRow,
    NodeRow,
    ReservationRow,
    WorkerRow,
)
from libs.common.states import WorkerState
from services.gateway.store.views import WorkerView, view_of

_FINISHED = tuple(state.value for state in WorkerState if state.is_finished)


@dataclass(frozen=True)
class DeviceView:
    index: int
    kind: str
    cores: int
    memory_bytes: int
    reserved_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class NodeView:
    id: str
    agent_heard_at: datetime | None
    fetcher_heard_at: datetime | None
    num_standbys: int  # processes that wait, ready, for a worker to be launched
    nic_bytes_per_s: int
    measured_bytes_per_s: float | None
    cache_capacity_bytes: int
    cache_used_bytes: int
    # What is wrong with its heartbeats; it counts as silent then. None: nothing.
    agent_invalid: str | None
    fetcher_invalid: str | None
    num_cached_units: int
    devices: tuple[DeviceView, ...]
    workers: tuple[WorkerView, ...]


@dataclass(frozen=True)
class _Parts:
    devices: dict[str, list[DeviceView]]
    workers: dict[str, list[WorkerView]]


@dataclass(frozen=True)
class NodeStore:
    database: Database

    async def read_all(self, tenant: str) -> tuple[NodeView, ...]:
        """Raises DatabaseUnavailable."""
        async with self.database.transaction() as session:
            rows = (await session.scalars(select(NodeRow).order_by(NodeRow.id))).all()
            parts = _Parts(await _devices(session), await _workers(session, tenant))
        return tuple(
            view_of(
                NodeView,
                row,
                devices=tuple(parts.devices[row.id]),
                workers=tuple(parts.workers[row.id]),
            )
            for row in rows
        )


async def _devices(session: AsyncSession) -> dict[str, list[DeviceView]]:
    reserved = select(
        ReservationRow.node_id, ReservationRow.device_index, func.sum(ReservationRow.device_bytes)
    ).group_by(ReservationRow.node_id, ReservationRow.device_index)
    bytes_of = {(node, index): int(total) for node, index, total in await session.execute(reserved)}
    devices: dict[str, list[DeviceView]] = defaultdict(list)
    for gpu in await session.scalars(select(GpuRow).order_by(GpuRow.node_id, GpuRow.index)):
        taken = bytes_of.get((gpu.node_id, gpu.index), 0)
        free = max(0, gpu.memory_bytes - taken)  # it may be gone under its reservations
        device = view_of(DeviceView, gpu, reserved_bytes=taken, free_bytes=free)
        devices[gpu.node_id].append(device)
    return devices


async def _workers(session: AsyncSession, tenant: str) -> dict[str, list[WorkerView]]:
    query = (
        select(WorkerRow)
        .join(EndpointRow, EndpointRow.id == WorkerRow.endpoint_id)
        .where(EndpointRow.tenant == tenant, WorkerRow.state.not_in(_FINISHED))
        .order_by(WorkerRow.created_at)
    )
    workers: dict[str, list[WorkerView]] = defaultdict(list)
    for row in await session.scalars(query):
        workers[row.node_id].append(view_of(WorkerView, row))
    return workers
