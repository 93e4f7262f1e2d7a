"""Rows of `nodes` and `gateways`: whoever sends heartbeats."""

from collections.abc import Collection, Mapping

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.tables import GatewayRow, NodeRow
from services.scheduler.policy.cluster import NodeRecord
from services.scheduler.store.columns.ages import age_s
from services.scheduler.store.columns.arrays import is_among, is_one_of

MEMORY_OF_GATEWAYS_S = 3600.0

_RECORDS = select(NodeRow.id, NodeRow.desired_version, NodeRow.agent_boot_id)
_BUMP_DESIRED = (
    update(NodeRow)
    .where(is_among(NodeRow.id, "node_ids"))
    .values(desired_version=NodeRow.desired_version + 1)
    .returning(NodeRow.id, NodeRow.desired_version)
    .execution_options(synchronize_session=False)
)
_RAISE_DESIRED = text(
    """
    UPDATE nodes SET desired_version = above + 1
    FROM unnest(CAST(:nodes AS text[]), CAST(:versions AS bigint[])) AS accepted (node_id, above)
    WHERE id = node_id AND desired_version <= above
    """
)


async def load(
    session: AsyncSession, node_ids: Collection[str] | None = None
) -> dict[str, NodeRecord]:
    """Of every node, or of some."""
    query = _RECORDS if node_ids is None else _RECORDS.where(is_one_of(NodeRow.id, node_ids))
    rows = await session.execute(query)
    return {row.id: NodeRecord(row.id, row.desired_version, row.agent_boot_id) for row in rows}


async def create(session: AsyncSession, node_ids: Collection[str]) -> None:
    if node_ids:
        values = [{"id": node_id} for node_id in sorted(node_ids)]
        await session.execute(insert(NodeRow).values(values).on_conflict_do_nothing())


async def bump_desired(session: AsyncSession, node_ids: Collection[str]) -> dict[str, int]:
    """A new version of what these nodes shall run; the versions by node."""
    if not node_ids:
        return {}
    rows = await session.execute(_BUMP_DESIRED, {"node_ids": list(node_ids)})
    return {row.id: row.desired_version for row in rows}


async def raise_desired(session: AsyncSession, accepted: Mapping[str, int]) -> None:
    """Nodes that accepted a version (by id) we do not remember follow only higher ones."""
    if accepted:
        values = {"nodes": list(accepted), "versions": list(accepted.values())}
        await session.execute(_RAISE_DESIRED, values)


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
