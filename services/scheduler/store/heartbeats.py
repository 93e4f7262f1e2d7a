"""What heartbeats say of a node itself, in its row."""

from collections.abc import Collection, Mapping, Sequence
from typing import cast

from sqlalchemy import Table, Update, bindparam, func, update
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import AgentHeartbeat, FetcherHeartbeat
from libs.common.records.tables import NodeRow
from services.scheduler.policy.observed import NodeProcess
from services.scheduler.store.columns.arrays import is_among, run_for_all

_NODES = cast(Table, NodeRow.__table__)


_OF_NODE = update(_NODES).where(_NODES.c.id == bindparam("node"))
_RECORD_AGENT = _OF_NODE.values(
    agent_boot_id=bindparam("boot"),
    agent_accepted_version=bindparam("accepted"),
    agent_heard_at=func.now(),
    num_standbys=bindparam("standbys"),
    agent_invalid=None,
)
_RECORD_FETCHER = _OF_NODE.values(
    fetcher_boot_id=bindparam("boot"),
    fetcher_accepted_version=bindparam("accepted"),
    fetcher_heard_at=func.now(),
    nic_bytes_per_s=bindparam("nic"),
    measured_bytes_per_s=bindparam("measured"),
    cache_capacity_bytes=bindparam("capacity"),
    cache_max_bytes=bindparam("largest"),
    cache_used_bytes=bindparam("used"),
    fetcher_invalid=None,
)
_OF_NODES = update(_NODES).where(is_among(_NODES.c.id, "node_ids"))
_TOUCH_AGENTS = _OF_NODES.values(agent_heard_at=func.now(), agent_invalid=None)
_TOUCH_FETCHERS = _OF_NODES.values(fetcher_heard_at=func.now(), fetcher_invalid=None)
_RECORD_INVALID = {
    "agent": _OF_NODE.values(agent_invalid=bindparam("complaint")),
    "fetcher": _OF_NODE.values(fetcher_invalid=bindparam("complaint")),
}


async def record_agents(session: AsyncSession, heartbeats: Sequence[AgentHeartbeat]) -> None:
    rows = [
        {
            "node": item.node_id,
            "boot": item.boot_id,
            "accepted": item.accepted_version,
            "standbys": item.num_standbys,
        }
        for item in heartbeats
    ]
    await run_for_all(session, _RECORD_AGENT, rows)


async def record_fetchers(session: AsyncSession, heartbeats: Sequence[FetcherHeartbeat]) -> None:
    rows = [
        {
            "node": item.node_id,
            "boot": item.boot_id,
            "accepted": item.accepted_version,
            "nic": item.nic_bytes_per_s,
            "measured": item.measured_bytes_per_s,
            "capacity": item.cache_capacity_bytes,
            "largest": item.cache_max_bytes,
            "used": item.cache_used_bytes,
        }
        for item in heartbeats
    ]
    await run_for_all(session, _RECORD_FETCHER, rows)


async def touch_agents(session: AsyncSession, node_ids: Collection[str]) -> None:
    """They were heard, and what their rows have is as it was."""
    await _touch(session, _TOUCH_AGENTS, node_ids)


async def touch_fetchers(session: AsyncSession, node_ids: Collection[str]) -> None:
    await _touch(session, _TOUCH_FETCHERS, node_ids)


async def _touch(session: AsyncSession, statement: Update, node_ids: Collection[str]) -> None:
    if node_ids:
        await session.execute(statement, {"node_ids": list(node_ids)})


async def record_invalid(session: AsyncSession, complaints: Mapping[NodeProcess, str]) -> None:
    """What is wrong with what they say; it stays until they are recorded again."""
    for kind, statement in _RECORD_INVALID.items():
        rows = [
            {"node": process.node_id, "complaint": complaint}
            for process, complaint in complaints.items()
            if process.kind == kind
        ]
        await run_for_all(session, statement, rows)
