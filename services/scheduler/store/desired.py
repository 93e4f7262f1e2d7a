"""What a node shall run and hold, computed from the rows of workers and fetches."""

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import CompoundSelect, Row, Select, and_, literal, select, union_all, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import (
    FetchSpec,
    NodeDesired,
    Peer,
    TargetGeneration,
    WorkerSpec,
)
from libs.common.records.tables import ConsolidationRow, EndpointRow, FetchRow, WorkerRow
from libs.common.states import EndpointState, FetchClass, FetchPurpose
from services.scheduler.store.columns.ages import age_s
from services.scheduler.store.columns.arrays import is_among

logger = logging.getLogger(__name__)

_IS_ITS_TARGET = and_(
    ConsolidationRow.worker_id == WorkerRow.id, ConsolidationRow.ended_at.is_(None)
)
_WORKERS = (
    select(
        *(WorkerRow.node_id, WorkerRow.spec, EndpointRow.state),
        ConsolidationRow.generation.label("target_generation"),
        ConsolidationRow.attempt.label("target_attempt"),
        ConsolidationRow.kv_bytes.label("target_kv_bytes"),
        ConsolidationRow.timeout_s.label("target_timeout_s"),
        FetchRow.unit_digests.label("target_digests"),
    )
    .join(EndpointRow, EndpointRow.id == WorkerRow.endpoint_id)
    .join(ConsolidationRow, _IS_ITS_TARGET, isouter=True)
    .join(FetchRow, FetchRow.id == ConsolidationRow.fetch_id, isouter=True)
    .where(WorkerRow.is_desired, WorkerRow.is_launch_due)
    .order_by(WorkerRow.created_at, WorkerRow.id)
)
_WORKERS_OF = _WORKERS.where(is_among(WorkerRow.node_id, "node_ids"))
_STOPPED = select(WorkerRow.node_id, WorkerRow.id).where(
    ~WorkerRow.is_desired, is_among(WorkerRow.node_id, "node_ids")
)
_STOPPED_OF = union_all(
    _STOPPED.where(WorkerRow.ended_at.is_(None)),
    _STOPPED.where(WorkerRow.ended_at.is_not(None), is_among(WorkerRow.id, "spoken_of")),
)
_FETCHES = (
    select(
        FetchRow.node_id,
        FetchRow.id,
        FetchRow.purpose,
        FetchRow.fetch_class,
        FetchRow.manifest_digest,
        FetchRow.unit_digests,
        FetchRow.traceparent,
        age_s(FetchRow.deadline_at).label("overdue_s"),
    )
    .where(FetchRow.is_desired)
    .order_by(FetchRow.created_at, FetchRow.id)
)
_FETCHES_OF = _FETCHES.where(is_among(FetchRow.node_id, "node_ids"))


async def load(
    session: AsyncSession,
    versions: Mapping[str, int],
    leader_epoch: int,
    reported: Mapping[str, Collection[str]],
) -> list[NodeDesired]:
    """The whole desired state of each of these nodes, under its version.

    `reported`: ids of workers that its agent spoke of last, by node.
    """
    if not versions:
        return []
    stopped = await _stopped(session, versions, reported)
    values = {"node_ids": list(versions)}
    workers = await _by_node(session, _WORKERS_OF, values)
    fetches = await _by_node(session, _FETCHES_OF, values)
    found = []
    for node_id, version in versions.items():
        try:
            found.append(
                NodeDesired(
                    node_id=node_id,
                    leader_epoch=leader_epoch,
                    version=version,
                    workers=tuple(map(_worker, workers[node_id])),
                    stopped_workers=tuple(row.id for row in stopped[node_id]),
                    fetches=tuple(map(_fetch, fetches[node_id])),
                )
            )
        except ValueError as exc:  # it is told nothing, rather than less than it shall run
            logger.error("what node %s shall run cannot be read from rows: %s", node_id, exc)
    return found


async def _stopped(
    session: AsyncSession, node_ids: Collection[str], reported: Mapping[str, Collection[str]]
) -> defaultdict[str, list[Row[Any]]]:
    """Workers that shall not run: those whose end was not seen yet, and of those on record as ended
    what their agent still speaks of. What no row speaks of is not named."""
    spoken_of = [id_ for node_id in node_ids for id_ in reported.get(node_id, ())]
    values = {"node_ids": list(node_ids), "spoken_of": spoken_of}
    return await _by_node(session, _STOPPED_OF, values)


async def _by_node(
    session: AsyncSession,
    query: Select[*tuple[Any, ...]] | CompoundSelect[*tuple[Any, ...]],
    values: Mapping[str, list[str]],
) -> defaultdict[str, list[Row[Any]]]:
    rows = defaultdict(list)
    for row in await session.execute(query, values):
        rows[row.node_id].append(row)
    return rows


def _worker(row: Row[Any]) -> WorkerSpec:
    is_draining = EndpointState(row.state) is EndpointState.DRAINING
    spec = {**row.spec, "is_draining": is_draining, "target": _target(row)}
    return WorkerSpec.model_validate(spec)


def _target(row: Row[Any]) -> TargetGeneration | None:
    """What it is to become, while its consolidation is open."""
    if row.target_generation is None:
        return None
    return TargetGeneration(
        generation=row.target_generation,
        attempt=row.target_attempt,
        unit_digests=tuple(row.target_digests or ()),
        kv_bytes=row.target_kv_bytes,
        timeout_ms=max(1, int(1000 * row.target_timeout_s)),
    )


def _fetch(row: Row[Any]) -> FetchSpec:
    overdue_s = row.overdue_s
    return FetchSpec(
        fetch_id=row.id,
        purpose=FetchPurpose(row.purpose),
        fetch_class=FetchClass(row.fetch_class),
        deadline_ms=None if overdue_s is None else max(0, int(-1000 * overdue_s)),
        manifest_digest=row.manifest_digest,
        unit_digests=tuple(row.unit_digests),
        traceparent=row.traceparent,
    )


async def set_neighbours(
    session: AsyncSession, worker_id: str, previous: Peer, following: Peer
) -> None:
    """With whom the worker's stage speaks, in what its node is told to run."""
    known = {
        "previous": previous.model_dump(mode="json"),
        "next": following.model_dump(mode="json"),
    }
    await session.execute(
        update(WorkerRow)
        .where(WorkerRow.id == worker_id)
        .values(spec=WorkerRow.spec.op("||")(literal(known, JSONB)))
        .execution_options(synchronize_session=False)
    )
