"""Deletion of rows that ended longer ago than the retention, and of nodes that are silent for long;
what is referred to stays.

Each statement deletes up to `max_rows` rows, oldest first, and returns how many it did.
`usage`, by which tenants are billed, is kept for ever: what `memory_hours` have goes into its days
when they are forgotten.
"""

from collections.abc import Collection, Sequence
from typing import Any, cast

from sqlalchemy import CursorResult, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

# A request's row names its endpoint and its cold start without a foreign key, and ends at most this
# much later than they do.
ENDPOINTS_LATER_S = 86_400.0

_REQUESTS = text(
    """
    DELETE FROM requests WHERE id IN (
        SELECT id FROM requests
        WHERE state = 'ENDED' AND ended_at < now() - make_interval(secs => :retention_s)
        ORDER BY ended_at LIMIT :max_rows FOR UPDATE SKIP LOCKED)
    """
)
# Their workers, cold starts and steps go with them.
_ENDPOINTS = text(
    """
    DELETE FROM endpoints WHERE id IN (
        SELECT old.id FROM endpoints AS old
        WHERE old.ended_at < now() - make_interval(secs => :retention_s)
            AND old.state IN ('STOPPED', 'FAILED')
            AND NOT EXISTS (SELECT FROM endpoints AS child WHERE child.parent_id = old.id)
            AND NOT EXISTS (
                SELECT FROM workers JOIN reservations ON reservations.worker_id = workers.id
                WHERE workers.endpoint_id = old.id)
        ORDER BY old.ended_at LIMIT :max_rows FOR UPDATE SKIP LOCKED)
    """
)
# Their rows go with their fetches.
_PREFETCHES = text(
    """
    DELETE FROM fetches WHERE id IN (
        SELECT fetch_id FROM prefetches
        WHERE ended_at < now() - make_interval(secs => :retention_s)
        ORDER BY ended_at LIMIT :max_rows FOR UPDATE SKIP LOCKED)
    """
)
# What was measured of them goes with them.
_MODELS = text(
    """
    DELETE FROM models WHERE id IN (
        SELECT old.id FROM models AS old
        WHERE old.state = 'DELETING'
            AND old.updated_at < now() - make_interval(secs => :retention_s)
            AND NOT EXISTS (SELECT FROM endpoints WHERE endpoints.model_id = old.id)
            AND NOT EXISTS (SELECT FROM cold_starts WHERE cold_starts.model_id = old.id)
            AND NOT EXISTS (SELECT FROM prefetches WHERE prefetches.model_id = old.id)
        ORDER BY old.updated_at LIMIT :max_rows FOR UPDATE SKIP LOCKED)
    RETURNING id
    """
)
_MEASURED_OF_MODELS = text("DELETE FROM measurements WHERE model_id = ANY(CAST(:ids AS text[]))")
_MEASURED_OF_NODES = text(
    "DELETE FROM measurements WHERE model_id = '' AND node_id = ANY(CAST(:ids AS text[]))"
)
_MANIFESTS = text(
    """
    DELETE FROM manifests WHERE digest IN (
        SELECT old.digest FROM manifests AS old
        WHERE old.created_at < now() - make_interval(secs => :retention_s)
            AND NOT EXISTS (SELECT FROM models WHERE models.manifest_digest = old.digest)
        ORDER BY old.created_at LIMIT :max_rows FOR UPDATE SKIP LOCKED)
    """
)
_OLD_HOURS = """
    SELECT tenant, model_id, hour FROM {table}
    WHERE hour < now() - make_interval(secs => :retention_s)
    ORDER BY hour LIMIT :max_rows FOR UPDATE SKIP LOCKED
"""
_SLO_HOURS = text(
    f"""
    DELETE FROM slo_hours WHERE (tenant, model_id, hour) IN (
        {_OLD_HOURS.format(table="slo_hours")})
    """
)
_MEMORY_HOURS = text(
    f"""
    WITH old AS (
        DELETE FROM memory_hours WHERE (tenant, model_id, hour) IN (
            {_OLD_HOURS.format(table="memory_hours")})
        RETURNING tenant, model_id, (hour AT TIME ZONE 'UTC')::date AS day, starting_byte_s,
            busy_byte_s, idle_byte_s
    ), kept AS (
        INSERT INTO usage (tenant, model_id, day, starting_byte_s, busy_byte_s, idle_byte_s)
        SELECT tenant, model_id, day, sum(starting_byte_s), sum(busy_byte_s), sum(idle_byte_s)
        FROM old GROUP BY tenant, model_id, day ORDER BY tenant, model_id, day
        ON CONFLICT (tenant, model_id, day) DO UPDATE SET
            starting_byte_s = usage.starting_byte_s + excluded.starting_byte_s,
            busy_byte_s = usage.busy_byte_s + excluded.busy_byte_s,
            idle_byte_s = usage.idle_byte_s + excluded.idle_byte_s
    )
    SELECT count(*) FROM old
    """
)
# Of a node `n`: the later of its two processes. Of one that never said anything valid no moment is
# known, but for how long this leader has listened.
_IS_SILENT = """
    coalesce(
        greatest(n.agent_heard_at, n.fetcher_heard_at),
        now() - make_interval(secs => :listened_s)
    ) < now() - make_interval(secs => :silence_s)"""
_SILENT_NODES = text(
    f"""
    SELECT n.id, EXISTS (SELECT FROM host_cache AS c WHERE c.node_id = n.id) AS has_cached_units
    FROM nodes AS n WHERE {_IS_SILENT} ORDER BY n.id
    """
)
# Devices and engines go with it. What ran there has ended when the node was lost, and its rows,
# which are history, do not need the node's.
_NODES = text(
    f"""
    DELETE FROM nodes AS n
    WHERE n.id = ANY(CAST(:node_ids AS text[])) AND {_IS_SILENT}
        AND NOT EXISTS (SELECT FROM reservations AS r WHERE r.node_id = n.id)
        AND NOT EXISTS (SELECT FROM workers AS w WHERE w.node_id = n.id AND w.is_desired)
        AND NOT EXISTS (SELECT FROM fetches AS f WHERE f.node_id = n.id AND f.is_desired)
        AND NOT EXISTS (SELECT FROM host_cache AS c WHERE c.node_id = n.id)
    RETURNING n.id
    """
)


async def delete_requests(session: AsyncSession, retention_s: float, max_rows: int) -> int:
    return await _delete(session, _REQUESTS, retention_s, max_rows)


async def delete_endpoints(session: AsyncSession, retention_s: float, max_rows: int) -> int:
    return await _delete(session, _ENDPOINTS, retention_s + ENDPOINTS_LATER_S, max_rows)


async def delete_prefetches(session: AsyncSession, retention_s: float, max_rows: int) -> int:
    return await _delete(session, _PREFETCHES, retention_s, max_rows)


async def delete_models(session: AsyncSession, retention_s: float, max_rows: int) -> int:
    """Those that their tenants deleted, once nothing is remembered of them."""
    values = {"retention_s": retention_s, "max_rows": max_rows}
    deleted = list(await session.scalars(_MODELS, values))
    await _forget_measured(session, _MEASURED_OF_MODELS, deleted)
    return len(deleted)


async def delete_manifests(session: AsyncSession, retention_s: float, max_rows: int) -> int:
    """Those of no model."""
    return await _delete(session, _MANIFESTS, retention_s, max_rows)


async def delete_slo_hours(session: AsyncSession, retention_s: float, max_rows: int) -> int:
    return await _delete(session, _SLO_HOURS, retention_s, max_rows)


async def delete_memory_hours(session: AsyncSession, retention_s: float, max_rows: int) -> int:
    """Each goes into the day that it was in."""
    values = {"retention_s": retention_s, "max_rows": max_rows}
    return await session.scalar(_MEMORY_HOURS, values) or 0


async def load_silent_nodes(
    session: AsyncSession, silence_s: float, listened_s: float
) -> dict[str, bool]:
    """Nodes that are silent for that long, and whether they have rows of cached units."""
    rows = await session.execute(_SILENT_NODES, {"silence_s": silence_s, "listened_s": listened_s})
    return {row.id: row.has_cached_units for row in rows}


async def delete_nodes(
    session: AsyncSession, node_ids: Collection[str], silence_s: float, listened_s: float
) -> frozenset[str]:
    """Those of them that nothing needs any more; a node that comes back is a new one."""
    values = {"node_ids": list(node_ids), "silence_s": silence_s, "listened_s": listened_s}
    deleted = list(await session.scalars(_NODES, values))
    await _forget_measured(session, _MEASURED_OF_NODES, deleted)
    return frozenset(deleted)


async def _forget_measured(
    session: AsyncSession, statement: TextClause, ids: Sequence[str]
) -> None:
    if ids:
        await session.execute(statement, {"ids": ids})


async def _delete(
    session: AsyncSession, statement: TextClause, retention_s: float, max_rows: int
) -> int:
    values = {"retention_s": retention_s, "max_rows": max_rows}
    found = cast(CursorResult[Any], await session.execute(statement, values))
    return found.rowcount
