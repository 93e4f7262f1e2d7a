"""What the devices of the cluster could offer if they were empty, also of others' files."""

from sqlalchemy import and_, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.tables import GpuRow, NodeEngineRow, NodeRow
from services.scheduler.policy.cluster import DeviceSize
from services.scheduler.policy.planning.memory import worker_bytes
from services.scheduler.store.ages import age_s
from services.scheduler.store.nodes import IS_OF_STAGE_ENGINE

MEMORY_OF_NODES_S = 600.0  # a node silent for longer no longer says what the cluster could hold

_IS_REMEMBERED = and_(
    NodeRow.id == GpuRow.node_id, age_s(NodeRow.agent_heard_at) < MEMORY_OF_NODES_S
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
    .join(NodeEngineRow, IS_OF_STAGE_ENGINE, isouter=True)
    .where(GpuRow.memory_bytes > 0)
    .order_by(GpuRow.node_id, GpuRow.index)
)


async def load_sizes(session: AsyncSession) -> tuple[DeviceSize, ...]:
    """Of every device of nodes heard of lately."""
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
