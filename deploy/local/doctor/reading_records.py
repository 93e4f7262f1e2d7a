"""Reads one snapshot of a stack's Postgres."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from deploy.local.doctor.values import (
    DeviceRecord,
    EndpointRecord,
    MemberRecord,
    NodeRecord,
    Records,
    RequestRecord,
    UsageRecord,
    WorkerRecord,
)
from libs.common.records.database import Database
from libs.common.states import EndpointState, MemberRole, WorkerState

_NUM_ENDED = 2000  # requests that ended last
_FINISHED = "('STOPPED', 'FAILED')"

_SNAPSHOT: Final = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
_LEADERSHIPS: Final = text("SELECT count(*) FROM leadership")
_REQUESTS: Final = text(
    f"""
WITH seen AS (
    SELECT * FROM requests WHERE state <> 'ENDED'
    UNION ALL
    (SELECT * FROM requests WHERE state = 'ENDED' ORDER BY ended_at DESC LIMIT {_NUM_ENDED})
)
SELECT seen.id, state, outcome, ended_at IS NOT NULL AS has_end,
    extract(epoch FROM now() - deadline_at)::float8 AS overdue_s,
    extract(epoch FROM now() - gateways.heard_at)::float8 AS gateway_silence_s,
    extract(epoch FROM now() - arrived_at)::float8 AS age_s
FROM seen LEFT JOIN gateways ON gateways.id = seen.gateway_id
"""
)
_DEVICES: Final = text(
    """
SELECT gpus.node_id, gpus.index, gpus.memory_bytes,
    coalesce(sum(reservations.device_bytes), 0)::bigint AS reserved_bytes
FROM gpus LEFT JOIN reservations
    ON reservations.node_id = gpus.node_id AND reservations.device_index = gpus.index
GROUP BY gpus.node_id, gpus.index
"""
)
_WORKERS: Final = text(
    f"""
SELECT workers.id, endpoint_id, workers.node_id, stage_index, workers.state, is_desired, pid,
    (spec->'layers'->>'first_layer')::int AS first_layer,
    (spec->'layers'->>'last_layer')::int AS last_layer,
    models.tenant, reservations.worker_id IS NOT NULL AS has_reservation,
    workers.ended_at IS NOT NULL AS has_end
FROM workers
    LEFT JOIN reservations ON reservations.worker_id = workers.id
    JOIN models ON models.id = workers.spec->>'model_id'
WHERE workers.state NOT IN {_FINISHED} OR workers.ended_at IS NULL OR is_desired
    OR reservations.worker_id IS NOT NULL
"""
)
_ENDPOINTS: Final = text(
    f"""
SELECT endpoints.id, endpoints.tenant, endpoints.state,
    endpoints.ended_at IS NOT NULL AS has_end,
    coalesce((manifests.summary->>'num_layers')::int, 0) AS num_layers
FROM endpoints
    JOIN models ON models.id = endpoints.model_id
    LEFT JOIN manifests ON manifests.digest = models.manifest_digest
WHERE endpoints.state NOT IN {_FINISHED} OR endpoints.ended_at IS NULL OR EXISTS (
    SELECT FROM workers WHERE workers.endpoint_id = endpoints.id AND is_desired)
"""
)
_MEMBERS: Final = text(
    f"""
SELECT members.endpoint_id, members.worker_id, members.role, members.first_layer,
    members.last_layer
FROM endpoint_members AS members
    JOIN endpoints ON endpoints.id = members.endpoint_id
        AND endpoints.generation = members.generation
WHERE endpoints.state NOT IN {_FINISHED}
"""
)
# Only where no request that was counted has been deleted since: of these usage must be the sum.
_USAGE: Final = text(
    """
WITH counted AS (
    SELECT tenant, model_id, count(*) FILTER (WHERE is_accounted) AS num_accounted
    FROM requests GROUP BY tenant, model_id
), told AS (
    SELECT tenant, model_id, sum(num_requests)::bigint AS num_requests, min(day) AS first_day,
        min(least(num_requests, num_prompt_tokens, num_generated_tokens)) AS least
    FROM usage GROUP BY tenant, model_id
)
SELECT tenant, model_id, num_requests, coalesce(num_accounted, 0) AS num_accounted, least
FROM told LEFT JOIN counted USING (tenant, model_id)
WHERE first_day >= (SELECT min(arrived_at AT TIME ZONE 'UTC')::date FROM requests)
"""
)
_NODES: Final = text(
    """
SELECT id, desired_version, agent_accepted_version, fetcher_accepted_version,
    coalesce(
        array_agg(encode(unit_digest, 'hex')) FILTER (WHERE unit_digest IS NOT NULL), '{}'
    ) AS cached_units
FROM nodes LEFT JOIN host_cache ON host_cache.node_id = nodes.id
GROUP BY id
"""
)


async def read_records(database: Database) -> Records:
    """Raises DatabaseUnavailable."""
    async with database.transaction() as session:
        await session.execute(_SNAPSHOT)
        return await records_in(session)


async def records_in(session: AsyncSession) -> Records:
    """As the session's transaction sees them."""
    return Records(
        num_leaderships=(await session.execute(_LEADERSHIPS)).scalar_one(),
        requests=tuple(RequestRecord(**row) for row in await _rows(session, _REQUESTS)),
        devices=tuple(DeviceRecord(**row) for row in await _rows(session, _DEVICES)),
        workers=tuple(map(_worker, await _rows(session, _WORKERS))),
        endpoints=await _endpoints(session),
        usage=tuple(UsageRecord(**row) for row in await _rows(session, _USAGE)),
        nodes=tuple(map(_node, await _rows(session, _NODES))),
    )


async def _rows(session: AsyncSession, statement: Any) -> list[Mapping[str, Any]]:
    rows: Iterable[Row[Any]] = await session.execute(statement)
    return [dict(row._mapping) for row in rows]


def _worker(row: Mapping[str, Any]) -> WorkerRecord:
    state = WorkerState(row["state"])
    facts = {key: value for key, value in row.items() if key != "state"}
    return WorkerRecord(**facts, is_finished=state.is_finished)


async def _endpoints(session: AsyncSession) -> tuple[EndpointRecord, ...]:
    members: defaultdict[str, list[MemberRecord]] = defaultdict(list)
    for row in await _rows(session, _MEMBERS):
        is_entry = row["role"] == MemberRole.ENTRY
        layers = (row["first_layer"], row["last_layer"])
        members[row["endpoint_id"]].append(MemberRecord(row["worker_id"], is_entry, *layers))
    return tuple(
        _endpoint(row, tuple(members[row["id"]])) for row in await _rows(session, _ENDPOINTS)
    )


def _endpoint(row: Mapping[str, Any], members: tuple[MemberRecord, ...]) -> EndpointRecord:
    state = EndpointState(row["state"])
    return EndpointRecord(
        id=row["id"],
        tenant=row["tenant"],
        is_serving=state.is_serving,
        is_finished=state.is_finished,
        has_end=row["has_end"],
        num_layers=row["num_layers"],
        members=members,
    )


def _node(row: Mapping[str, Any]) -> NodeRecord:
    return NodeRecord(**{**row, "cached_units": frozenset(row["cached_units"])})
