"""Rows of `gpus` and `node_engines`: what nodes offer, and what their engines take of it.

Statements are for any number of nodes at once: a new leader hears the whole cluster in a second.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from sqlalchemy import and_, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import DeviceObserved, EngineObserved
from libs.common.engines import PRIORS
from libs.common.records.tables import GpuRow, NodeEngineRow, NodeRow, ReservationRow
from libs.common.states import EngineKind
from services.scheduler.policy.cluster import Device, DeviceSize
from services.scheduler.policy.planning.idle_nodes import MEMORY_OF_NODES_S
from services.scheduler.policy.planning.memory import worker_bytes
from services.scheduler.store.columns.ages import age_s
from services.scheduler.store.columns.arrays import is_among

# To a device's row: what was measured on its node of the engine that plans reckon with.
_IS_OF_STAGE_ENGINE = and_(
    NodeEngineRow.node_id == GpuRow.node_id, NodeEngineRow.engine == EngineKind.STAGE.value
)
_IS_REMEMBERED = and_(
    NodeRow.id == GpuRow.node_id, age_s(NodeRow.agent_heard_at) < MEMORY_OF_NODES_S
)
_DEVICES = (
    select(
        GpuRow.node_id,
        GpuRow.index.label("device_index"),
        GpuRow.kind,
        GpuRow.memory_bytes,
        GpuRow.cores,
        GpuRow.has_bfloat16,
        NodeEngineRow.launch_s,
        NodeEngineRow.worker_bytes,
    )
    .join(NodeEngineRow, _IS_OF_STAGE_ENGINE, isouter=True)
    .order_by(GpuRow.node_id, GpuRow.index)
)
_DEVICES_OF = _DEVICES.where(is_among(GpuRow.node_id, "node_ids"))
_LOCK = _DEVICES_OF.with_for_update(of=GpuRow)
_PLACES = (ReservationRow.node_id, ReservationRow.device_index)
_RESERVED = (
    select(*_PLACES, func.sum(ReservationRow.device_bytes).label("total"))
    .where(is_among(ReservationRow.node_id, "node_ids"))
    .group_by(*_PLACES)
)
_SIZES = (
    select(
        GpuRow.node_id,
        GpuRow.index.label("device_index"),
        GpuRow.kind,
        GpuRow.memory_bytes,
        GpuRow.has_bfloat16,
        NodeEngineRow.worker_bytes,
        func.coalesce(NodeRow.cache_max_bytes, NodeRow.cache_capacity_bytes).label("cache_bytes"),
        NodeRow.nic_bytes_per_s,
    )
    .join(NodeRow, _IS_REMEMBERED)
    .join(NodeEngineRow, _IS_OF_STAGE_ENGINE, isouter=True)
    .where(GpuRow.memory_bytes > 0)
    .order_by(GpuRow.node_id, GpuRow.index)
)
_FORGET_GONE = text(
    """
    UPDATE gpus SET memory_bytes = 0
    WHERE node_id = ANY(CAST(:of_nodes AS text[])) AND memory_bytes <> 0 AND NOT EXISTS (
        SELECT FROM unnest(CAST(:nodes AS text[]), CAST(:indexes AS bigint[]))
            AS offered (node_id, index)
        WHERE offered.node_id = gpus.node_id AND offered.index = gpus.index)
    """
)
_RECORD_DEVICES = text(
    """
    INSERT INTO gpus (node_id, index, kind, memory_bytes, cores, has_bfloat16)
    SELECT * FROM unnest(
        CAST(:nodes AS text[]), CAST(:indexes AS bigint[]), CAST(:kinds AS text[]),
        CAST(:memories AS bigint[]), CAST(:cores AS bigint[]), CAST(:bfloat16s AS boolean[]))
    ON CONFLICT (node_id, index) DO UPDATE SET kind = excluded.kind, cores = excluded.cores,
        memory_bytes = excluded.memory_bytes, has_bfloat16 = excluded.has_bfloat16
    WHERE (gpus.kind, gpus.cores, gpus.memory_bytes, gpus.has_bfloat16) IS DISTINCT FROM
        (excluded.kind, excluded.cores, excluded.memory_bytes, excluded.has_bfloat16)
    """
)
_RECORD_ENGINES = text(
    """
    INSERT INTO node_engines (node_id, engine, launch_s, worker_bytes)
    SELECT * FROM unnest(
        CAST(:nodes AS text[]), CAST(:engines AS text[]),
        CAST(:launches_s AS float8[]), CAST(:workers_bytes AS bigint[]))
    ON CONFLICT (node_id, engine) DO UPDATE SET
        launch_s = coalesce(excluded.launch_s, node_engines.launch_s),
        worker_bytes = coalesce(excluded.worker_bytes, node_engines.worker_bytes)
    """
)


async def record_devices(
    session: AsyncSession, offered: Mapping[str, Collection[DeviceObserved]]
) -> None:
    """By node, what its agent offers; a device that it no longer lists has no memory any more."""
    if not offered:
        return
    rows = [(id_, device) for id_, devices in offered.items() for device in _once(devices)]
    places = {"nodes": [id_ for id_, _ in rows], "indexes": [device.index for _, device in rows]}
    await session.execute(_FORGET_GONE, {"of_nodes": list(offered), **places})
    values = {
        "kinds": [device.kind for _, device in rows],
        "memories": [device.memory_bytes for _, device in rows],
        "cores": [device.cores for _, device in rows],
        "bfloat16s": [device.has_bfloat16 for _, device in rows],
    }
    await session.execute(_RECORD_DEVICES, {**places, **values})


def _once(devices: Collection[DeviceObserved]) -> Iterator[DeviceObserved]:
    return iter({device.index: device for device in devices}.values())


async def record_engines(
    session: AsyncSession, measured: Mapping[str, Collection[EngineObserved]]
) -> None:
    """By node, what its agent has measured; what it has not measured in this boot stays as it
    was."""
    rows = [
        (id_, engine)
        for id_, engines in measured.items()
        for engine in {item.engine: item for item in engines}.values()
    ]
    if not rows:
        return
    values = {
        "nodes": [id_ for id_, _ in rows],
        "engines": [item.engine.value for _, item in rows],
        "launches_s": [None if x.launch_ms is None else x.launch_ms / 1000 for _, x in rows],
        "workers_bytes": [item.worker_bytes for _, item in rows],
    }
    await session.execute(_RECORD_ENGINES, values)


async def load_devices(
    session: AsyncSession, node_ids: Collection[str] | None = None
) -> tuple[Device, ...]:
    """Every device, or those of some nodes, as if nothing were reserved on them."""
    if node_ids is None:
        rows = await session.execute(_DEVICES)
    else:
        rows = await session.execute(_DEVICES_OF, {"node_ids": list(node_ids)})
    return tuple(_device(row, 0) for row in rows)


async def lock_devices(session: AsyncSession, node_ids: Collection[str]) -> tuple[Device, ...]:
    """Of these nodes, with the sum of their reservations; nobody else reserves meanwhile."""
    values = {"node_ids": list(node_ids)}
    rows = (await session.execute(_LOCK, values)).all()
    found = await session.execute(_RESERVED, values)
    reserved = {(row.node_id, row.device_index): int(row.total) for row in found}
    return tuple(_device(row, reserved.get((row.node_id, row.device_index), 0)) for row in rows)


def _device(row: Any, reserved_bytes: int) -> Device:
    return Device(
        row.node_id,
        row.device_index,
        row.memory_bytes,
        reserved_bytes,
        row.cores,
        worker_bytes(row.kind, row.worker_bytes),
        PRIORS[EngineKind.STAGE].launch_s if row.launch_s is None else row.launch_s,
        row.has_bfloat16,
    )


async def load_sizes(session: AsyncSession) -> tuple[DeviceSize, ...]:
    """What every device of nodes heard of lately could offer if it were empty, also of others'
    files."""
    return tuple(
        DeviceSize(
            node_id=r.node_id,
            index=r.device_index,
            memory_bytes=r.memory_bytes,
            # A fetcher that has not been heard yet has told no capacity.
            cache_bytes=r.cache_bytes or None,
            nic_bytes_per_s=r.nic_bytes_per_s,
            worker_bytes=worker_bytes(r.kind, r.worker_bytes),
            has_bfloat16=r.has_bfloat16,
        )
        for r in await session.execute(_SIZES)
    )
