"""Rows of `nodes`, `gpus`, `host_cache` and `gateways`: whoever sends heartbeats."""

from collections.abc import Collection
from typing import cast

from sqlalchemy import Table, and_, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import (
    DeviceObserved,
    EngineObserved,
)
from libs.common.engines import PRIORS
from libs.common.records.tables import (
    GatewayRow,
    GpuRow,
    HostCacheRow,
    NodeEngineRow,
    NodeRow,
    ReservationRow,
)
from libs.common.states import EngineKind
from services.scheduler.policy.cluster import Device, NodeRecord
from services.scheduler.policy.planning.memory import worker_bytes
from services.scheduler.store.ages import age_s
from services.scheduler.store.arrays import is_one_of, texts

_NODES = cast(Table, NodeRow.__table__)
MEMORY_OF_GATEWAYS_S = 3600.0
# To a device's row: what was measured on its node of the engine that plans reckon with.
IS_OF_STAGE_ENGINE = and_(
    NodeEngineRow.node_id == GpuRow.node_id, NodeEngineRow.engine == EngineKind.STAGE.value
)


_RECORDS = select(NodeRow.id, NodeRow.desired_version, NodeRow.agent_boot_id)


async def load(session: AsyncSession) -> dict[str, NodeRecord]:
    rows = await session.execute(select(NodeRow.id, NodeRow.desired_version, NodeRow.agent_boot_id))
    return {row.id: NodeRecord(row.id, row.desired_version, row.agent_boot_id) for row in rows}


async def create(session: AsyncSession, node_ids: Collection[str]) -> None:
    if node_ids:
        values = [{"id": node_id} for node_id in sorted(node_ids)]
        await session.execute(insert(NodeRow).values(values).on_conflict_do_nothing())


async def record_devices(
    session: AsyncSession, node_id: str, devices: tuple[DeviceObserved, ...]
) -> None:
    """What the agent offers; a device that it no longer lists has no memory any more."""
    await session.execute(
        update(GpuRow)
        .where(GpuRow.node_id == node_id, GpuRow.index.not_in([d.index for d in devices]))
        .values(memory_bytes=0)
    )
    if not devices:
        return
    statement = insert(GpuRow).values(
        [
            {
                "node_id": node_id,
                "index": device.index,
                "kind": device.kind,
                "memory_bytes": device.memory_bytes,
                "cores": device.cores,
                "has_bfloat16": device.has_bfloat16,
            }
            for device in {device.index: device for device in devices}.values()
        ]
    )
    changing = ("kind", "memory_bytes", "cores", "has_bfloat16")
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["node_id", "index"],
            set_={name: statement.excluded[name] for name in changing},
        )
    )


async def record_engines(
    session: AsyncSession, node_id: str, engines: tuple[EngineObserved, ...]
) -> None:
    """What its agent has measured; what it has not measured in this boot stays as it was."""
    if not engines:
        return
    statement = insert(NodeEngineRow).values(
        [
            {
                "node_id": node_id,
                "engine": item.engine.value,
                "launch_s": None if item.launch_ms is None else item.launch_ms / 1000,
                "worker_bytes": item.worker_bytes,
            }
            for item in {item.engine: item for item in engines}.values()
        ]
    )
    new = statement.excluded
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["node_id", "engine"],
            set_={
                "launch_s": func.coalesce(new.launch_s, NodeEngineRow.launch_s),
                "worker_bytes": func.coalesce(new.worker_bytes, NodeEngineRow.worker_bytes),
            },
        )
    )


async def load_cached_units(session: AsyncSession, node_id: str) -> frozenset[str]:
    query = select(HostCacheRow.unit_digest).where(HostCacheRow.node_id == node_id)
    return frozenset(await session.scalars(query))


async def change_cached_units(
    session: AsyncSession, node_id: str, *, gone: Collection[str], new: Collection[str]
) -> None:
    """Only the difference: a node may hold tens of thousands of units."""
    if gone:
        await session.execute(
            delete(HostCacheRow).where(
                HostCacheRow.node_id == node_id, is_one_of(HostCacheRow.unit_digest, gone)
            )
        )
    if new:
        rows = select(literal(node_id), func.unnest(texts(new)))
        statement = insert(HostCacheRow).from_select(["node_id", "unit_digest"], rows)
        await session.execute(statement.on_conflict_do_nothing())


async def bump_desired(session: AsyncSession, node_ids: Collection[str]) -> dict[str, int]:
    """A new version of what these nodes shall run; the versions by node."""
    if not node_ids:
        return {}
    rows = await session.execute(
        update(NodeRow)
        .where(is_one_of(NodeRow.id, node_ids))
        .values(desired_version=NodeRow.desired_version + 1)
        .returning(NodeRow.id, NodeRow.desired_version)
        .execution_options(synchronize_session=False)
    )
    return {row.id: row.desired_version for row in rows}


async def raise_desired(session: AsyncSession, node_id: str, above: int) -> None:
    """A node that accepted a version we do not remember follows only higher ones."""
    await session.execute(
        update(NodeRow)
        .where(NodeRow.id == node_id, NodeRow.desired_version <= above)
        .values(desired_version=above + 1)
    )


async def load_devices(
    session: AsyncSession, node_ids: Collection[str] | None = None, *, is_locked: bool = False
) -> tuple[Device, ...]:
    """Every device, or those of some nodes, with the sum of their reservations; locked, nobody else
    reserves meanwhile."""
    gpus = select(
        GpuRow.node_id,
        GpuRow.index.label("device_index"),
        GpuRow.kind,
        GpuRow.memory_bytes,
        GpuRow.cores,
        GpuRow.has_bfloat16,
        NodeEngineRow.launch_s,
        NodeEngineRow.worker_bytes,
    ).join(NodeEngineRow, IS_OF_STAGE_ENGINE, isouter=True)
    gpus = gpus.order_by(GpuRow.node_id, GpuRow.index)
    if node_ids is not None:
        gpus = gpus.where(is_one_of(GpuRow.node_id, node_ids))
    locked = gpus.with_for_update(of=GpuRow)
    rows = (await session.execute(locked if is_locked else gpus)).all()
    reserved = await _reserved_bytes(session)
    return tuple(
        Device(
            r.node_id,
            r.device_index,
            r.memory_bytes,
            reserved.get((r.node_id, r.device_index), 0),
            r.cores,
            worker_bytes(r.kind, r.worker_bytes),
            PRIORS[EngineKind.STAGE].launch_s if r.launch_s is None else r.launch_s,
            r.has_bfloat16,
        )
        for r in rows
    )


async def _reserved_bytes(session: AsyncSession) -> dict[tuple[str, int], int]:
    total = func.sum(ReservationRow.device_bytes).label("total")
    query = select(ReservationRow.node_id, ReservationRow.device_index, total).group_by(
        ReservationRow.node_id, ReservationRow.device_index
    )
    return {(r.node_id, r.device_index): int(r.total) for r in await session.execute(query)}


async def record_gateways(session: AsyncSession, gateway_ids: Collection[str]) -> None:
    """Those that speak; each start of a gateway is another one, so old rows go."""
    await session.execute(
        delete(GatewayRow).where(age_s(GatewayRow.heard_at) > MEMORY_OF_GATEWAYS_S)
    )
    if not gateway_ids:
        return
    statement = insert(GatewayRow).values(
        [{"id": gateway_id} for gateway_id in sorted(gateway_ids)]
    )
    await session.execute(
        statement.on_conflict_do_update(index_elements=["id"], set_={"heard_at": func.now()})
    )
