"""Endpoints with members and workers: read whole when a leader begins, then kept in memory."""

import logging
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import and_, func, select, union
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.tables import (
    ColdStartRow,
    ConsolidationRow,
    EndpointMemberRow,
    EndpointRow,
    FetchRow,
    ReservationRow,
    WorkerRow,
)
from libs.common.states import (
    ConsolidationState,
    EndpointState,
    FetchPurpose,
    MemberMemory,
    MemberRole,
    StartPurpose,
    WorkerState,
)
from services.scheduler.policy.cluster import Endpoint, EndpointFailure, Member, Worker
from services.scheduler.policy.consolidation.consolidation import (
    NO_TRIES,
    Consolidation,
    ConsolidationTries,
)
from services.scheduler.store.columns.ages import age_s, seconds
from services.scheduler.store.columns.cause_columns import fault_of

logger = logging.getLogger(__name__)

_FINISHED = (EndpointState.STOPPED.value, EndpointState.FAILED.value)
# A union, where "or" would read every endpoint that there ever was.
_IN_FLEET = union(
    select(EndpointRow.id).where(EndpointRow.state.not_in(_FINISHED)),
    select(WorkerRow.endpoint_id).join(ReservationRow, ReservationRow.worker_id == WorkerRow.id),
)
# Consolidations that came to nothing, and are tried again.
_TRIES = (
    select(
        ConsolidationRow.endpoint_id,
        func.count().label("num_tries"),
        func.min(age_s(ConsolidationRow.ended_at)).label("last_try_s"),
    )
    .where(ConsolidationRow.is_retried, ConsolidationRow.endpoint_id.in_(_IN_FLEET))
    .group_by(ConsolidationRow.endpoint_id)
    .subquery()
)
_ENDPOINTS = (
    select(
        EndpointRow.id,
        EndpointRow.tenant,
        EndpointRow.model_id,
        EndpointRow.epoch,
        EndpointRow.state,
        EndpointRow.max_slots,
        EndpointRow.generation,
        ColdStartRow.id.label("cold_start_id"),
        EndpointRow.purpose,
        age_s(EndpointRow.ready_at).label("ready_s"),
        age_s(EndpointRow.idle_since).label("idle_s"),
        _TRIES.c.num_tries,
        _TRIES.c.last_try_s,
    )
    .join(ColdStartRow, ColdStartRow.endpoint_id == EndpointRow.id, isouter=True)
    .join(_TRIES, _TRIES.c.endpoint_id == EndpointRow.id, isouter=True)
    .where(EndpointRow.id.in_(_IN_FLEET))
    .order_by(EndpointRow.created_at, EndpointRow.id)
)
_MEMBERS = (
    select(
        EndpointMemberRow.endpoint_id,
        EndpointMemberRow.worker_id,
        EndpointMemberRow.role,
        EndpointMemberRow.stage_index,
        EndpointMemberRow.first_layer,
        EndpointMemberRow.last_layer,
        EndpointMemberRow.memory,
    )
    .join(
        EndpointRow,
        and_(
            EndpointRow.id == EndpointMemberRow.endpoint_id,
            EndpointRow.generation == EndpointMemberRow.generation,
        ),
    )
    .where(EndpointRow.id.in_(_IN_FLEET))
    .order_by(EndpointMemberRow.stage_index)
)
_IS_FOR_ITS_START = and_(
    FetchRow.worker_id == WorkerRow.id, FetchRow.purpose == FetchPurpose.START.value
)
_WORKERS = (
    select(
        WorkerRow.id,
        WorkerRow.endpoint_id,
        WorkerRow.node_id,
        WorkerRow.device_index,
        ReservationRow.device_bytes,
        WorkerRow.stage_index,
        WorkerRow.state,
        WorkerRow.is_desired,
        WorkerRow.is_launch_due,
        WorkerRow.public_key,
        WorkerRow.address,
        FetchRow.id.label("fetch_id"),
        WorkerRow.spec["max_context_tokens"].as_integer().label("context_tokens"),
        WorkerRow.spec["next"].as_string().is_not(None).label("is_connected"),
        WorkerRow.spec["manifest_digest"].as_string().label("manifest_digest"),
        WorkerRow.spec["unit_digests"].label("unit_digests"),
        WorkerRow.spec["worker_bytes"].as_integer().label("worker_bytes"),
        WorkerRow.spec["kv_tokens"].as_integer().label("kv_tokens"),
    )
    .join(ReservationRow, ReservationRow.worker_id == WorkerRow.id)
    .join(FetchRow, _IS_FOR_ITS_START, isouter=True)
    .order_by(WorkerRow.stage_index)
)


_CONSOLIDATIONS = (
    select(
        *(ConsolidationRow.id, ConsolidationRow.worker_id, ConsolidationRow.generation),
        *(ConsolidationRow.fetch_id, ConsolidationRow.state, ConsolidationRow.timeout_s),
        FetchRow.unit_digests,
        age_s(ConsolidationRow.started_at).label("begun_s"),
    )
    .join(FetchRow, FetchRow.id == ConsolidationRow.fetch_id)
    .where(ConsolidationRow.ended_at.is_(None))
)


async def load_fleet(session: AsyncSession, now_s: float) -> tuple[Endpoint, ...]:
    """Endpoints that live, and those that ended but still hold memory; oldest first."""
    members, workers = await _load_members(session), await _load_workers(session)
    open_ = await _load_consolidations(session, now_s)
    found = []
    for row in await session.execute(_ENDPOINTS):
        try:
            found.append(_endpoint(row, members[row.id], workers[row.id], open_, now_s))
        except ValueError as exc:  # of another version of this software: it costs its own endpoint
            logger.error("endpoint %s cannot be read from its rows: %s", row.id, exc)
    return tuple(found)


def _endpoint(
    row: Any,
    members: list[Any],
    workers: list[Any],
    consolidations: Mapping[str, Consolidation],
    now_s: float,
) -> Endpoint:
    """`consolidations`: by worker. Raises ValueError for words that this version does not know."""
    return Endpoint(
        id=row.id,
        tenant=row.tenant,
        model_id=row.model_id,
        epoch=row.epoch,
        state=EndpointState(row.state),
        max_slots=row.max_slots,
        cold_start_id=row.cold_start_id,
        has_been_ready=row.ready_s is not None,
        idle_since_s=None if row.idle_s is None else now_s - row.idle_s,
        generation=row.generation,
        members=tuple(map(_member, members)),
        workers=tuple(_worker(worker, consolidations.get(worker.id)) for worker in workers),
        ready_since_s=None if row.ready_s is None else now_s - row.ready_s,
        purpose=StartPurpose(row.purpose),
        consolidation_tries=NO_TRIES
        if row.num_tries is None
        else ConsolidationTries(row.num_tries, now_s - row.last_try_s),
    )


async def load_failures(
    session: AsyncSession, now_s: float, within_s: float
) -> tuple[EndpointFailure, ...]:
    """Endpoints that failed lately, with the nodes of those whom it began with."""
    query = (
        select(
            EndpointRow.id,
            EndpointRow.model_id,
            age_s(EndpointRow.ended_at).label("age_s"),
            EndpointRow.cause,
            EndpointRow.cause_kind,
            EndpointRow.ready_at,
            WorkerRow.node_id,
        )
        .join(WorkerRow, WorkerRow.id == EndpointRow.guilty_worker_id, isouter=True)
        .where(
            EndpointRow.ended_at > func.now() - seconds(within_s),
            EndpointRow.state.in_(_FINISHED),  # as the index says, so that it is used
            EndpointRow.state == EndpointState.FAILED.value,
        )
    )
    return tuple(
        EndpointFailure(
            row.id,
            row.model_id,
            now_s - row.age_s,
            row.cause or "",
            frozenset() if row.node_id is None else frozenset({row.node_id}),
            fault_of(row.cause_kind),
            row.ready_at is not None,
        )
        for row in await session.execute(query)
    )


async def _load_consolidations(session: AsyncSession, now_s: float) -> dict[str, Consolidation]:
    """Those that are open, by the entry's id."""
    return {
        row.worker_id: Consolidation(
            id=row.id,
            generation=row.generation,
            fetch_id=row.fetch_id,
            unit_digests=tuple(row.unit_digests),
            state=ConsolidationState(row.state),
            began_at_s=now_s - row.begun_s,
            timeout_s=row.timeout_s,
        )
        for row in await session.execute(_CONSOLIDATIONS)
    }


async def _load_members(session: AsyncSession) -> defaultdict[str, list[Any]]:
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for row in await session.execute(_MEMBERS):
        found[row.endpoint_id].append(row)
    return found


async def _load_workers(session: AsyncSession) -> defaultdict[str, list[Any]]:
    """Of those with a reservation: a worker without one is gone."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for row in await session.execute(_WORKERS):
        found[row.endpoint_id].append(row)
    return found


def _member(row: Any) -> Member:
    return Member(
        row.worker_id,
        MemberRole(row.role),
        row.stage_index,
        row.first_layer,
        row.last_layer,
        MemberMemory(row.memory),
    )


def _worker(row: Any, consolidation: Consolidation | None) -> Worker:
    values = {
        **row._mapping,
        "state": WorkerState(row.state),
        "consolidation": consolidation,
        "worker_bytes": row.worker_bytes or 0,
        "kv_tokens": row.kv_tokens or 0,
    }
    return Worker(**{**values, "unit_digests": tuple(row.unit_digests or ())})
