"""Rows of `cold_starts`, and the plan that begins one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import WorkerSpec
from libs.common.causes import Cause
from libs.common.records.tables import (
    ColdStartRow,
    EndpointMemberRow,
    EndpointRow,
    FetchRow,
    ReservationRow,
    WorkerRow,
)
from libs.common.states import (
    EndpointState,
    FetchClass,
    FetchPurpose,
    StartPurpose,
    WorkerState,
)
from services.scheduler.policy.cluster import Member, Model
from services.scheduler.policy.planning.plans import ConsideredPlan
from services.scheduler.policy.prediction.predictor import Prediction
from services.scheduler.store.columns.arrays import is_among
from services.scheduler.store.columns.cause_columns import columns_of
from services.scheduler.store.starts import predictions

_ADD_ENDPOINT, _ADD_WORKER, _ADD_FETCH = insert(EndpointRow), insert(WorkerRow), insert(FetchRow)
_ADD_MEMBER, _ADD_RESERVATION = insert(EndpointMemberRow), insert(ReservationRow)
_ADD_COLD_START = insert(ColdStartRow)
_TRACEPARENTS = (
    select(ColdStartRow.request_id, ColdStartRow.traceparent)
    .where(is_among(ColdStartRow.request_id, "request_ids"), ColdStartRow.traceparent.is_not(None))
    .order_by(ColdStartRow.started_at)
)


_SET_READY = text(
    """
    UPDATE cold_starts SET ready_at = now(), ended_at = now(), bytes_from_cache = cached
    FROM unnest(CAST(:ids AS text[]), CAST(:cached AS bigint[])) AS ready (cold_start_id, cached)
    WHERE id = cold_start_id
    RETURNING id, started_at, traceparent
    """
)


@dataclass(frozen=True)
class PlannedWorker:
    node_id: str
    fetch_id: str
    spec: WorkerSpec
    is_launch_due: bool  # or only once its weights are there


@dataclass(frozen=True)
class ColdStart:
    """Everything that one transaction writes when a plan is made."""

    id: str
    endpoint_id: str
    endpoint_epoch: int
    model: Model
    request_id: str | None
    traceparent: str | None
    weight_bytes: int
    workers: tuple[PlannedWorker, ...]
    members: tuple[Member, ...]  # of the first generation
    generation: int
    prediction: Prediction | None
    considered: tuple[ConsideredPlan, ...]
    purpose: StartPurpose = StartPurpose.REQUEST

    @property
    def fetch_class(self) -> FetchClass:
        """What nobody waits for gets what others leave of the network."""
        is_asked = self.purpose is StartPurpose.REQUEST
        return FetchClass.INTERACTIVE if is_asked else FetchClass.BACKGROUND


async def begin(session: AsyncSession, starts: Sequence[ColdStart]) -> None:
    """All of them, with one statement for each table."""
    workers = [worker for start in starts for worker in start.workers]
    connection = await session.connection()
    for statement, rows in (
        (_ADD_ENDPOINT, [_endpoint(start) for start in starts]),
        (_ADD_WORKER, [_worker(worker) for worker in workers]),
        (_ADD_FETCH, [_fetch(start, x) for start in starts for x in start.workers]),
        (_ADD_MEMBER, [_member(start, x) for start in starts for x in start.members]),
        (_ADD_RESERVATION, [_reservation(worker) for worker in workers]),
        (_ADD_COLD_START, [_cold_start(start) for start in starts]),
    ):
        await connection.execute(statement, rows)


def _endpoint(start: ColdStart) -> dict[str, object]:
    return {
        "id": start.endpoint_id,
        "tenant": start.model.tenant,
        "model_id": start.model.id,
        "epoch": start.endpoint_epoch,
        "generation": start.generation,
        "state": EndpointState.STARTING.value,
        "max_slots": start.model.max_slots,
        "num_stages": len(start.workers),
        "purpose": start.purpose.value,
    }


def _cold_start(start: ColdStart) -> dict[str, object]:
    return {
        "id": start.id,
        "tenant": start.model.tenant,
        "model_id": start.model.id,
        "endpoint_id": start.endpoint_id,
        "request_id": start.request_id,
        "traceparent": start.traceparent,
        "weight_bytes": start.weight_bytes,
        **predictions.columns_of(start.prediction, start.considered),
    }


def _worker(worker: PlannedWorker) -> dict[str, object]:
    spec = worker.spec
    return {
        "id": spec.worker_id,
        "endpoint_id": spec.endpoint_id,
        "node_id": worker.node_id,
        "device_index": spec.device_index,
        "stage_index": spec.stage_index,
        "engine": spec.engine.value,
        "state": WorkerState.PLANNED.value,
        "spec": spec.model_dump(mode="json"),
        "is_launch_due": worker.is_launch_due,
    }


def _fetch(start: ColdStart, worker: PlannedWorker) -> dict[str, object]:
    spec = worker.spec
    return {
        "id": worker.fetch_id,
        "node_id": worker.node_id,
        "endpoint_id": spec.endpoint_id,
        "worker_id": spec.worker_id,
        "purpose": FetchPurpose.START.value,
        "fetch_class": start.fetch_class.value,
        "manifest_digest": spec.manifest_digest,
        "unit_digests": list(spec.unit_digests),
        "traceparent": spec.traceparent,
    }


def _member(start: ColdStart, member: Member) -> dict[str, object]:
    return {
        "endpoint_id": start.endpoint_id,
        "generation": start.generation,
        "worker_id": member.worker_id,
        "role": member.role.value,
        "stage_index": member.stage_index,
        "first_layer": member.first_layer,
        "last_layer": member.last_layer,
        "memory": member.memory.value,
    }


def _reservation(worker: PlannedWorker) -> dict[str, object]:
    spec = worker.spec
    return {
        "worker_id": spec.worker_id,
        "node_id": worker.node_id,
        "device_index": spec.device_index,
        "device_bytes": spec.device_bytes,
    }


@dataclass(frozen=True)
class ColdStartOrigin:
    """What the span of a cold start that has ended needs of its beginning."""

    started_at: datetime
    traceparent: str | None


async def set_ready(
    session: AsyncSession, bytes_from_cache: Mapping[str, int]
) -> dict[str, ColdStartOrigin]:
    """By cold start: how much of it the host caches had; and when each began."""
    if not bytes_from_cache:
        return {}
    values = {"ids": list(bytes_from_cache), "cached": list(bytes_from_cache.values())}
    rows = await session.execute(_SET_READY, values)
    return {row.id: ColdStartOrigin(row.started_at, row.traceparent) for row in rows}


async def end(session: AsyncSession, cold_start_id: str, cause: Cause) -> ColdStartOrigin | None:
    """For a start that did not come to serve; None for one that did: it has ended already."""
    found = await session.execute(
        update(ColdStartRow)
        .where(ColdStartRow.id == cold_start_id, ColdStartRow.ended_at.is_(None))
        .values(ended_at=func.now(), **columns_of(cause))
        .returning(ColdStartRow.started_at, ColdStartRow.traceparent)
    )
    row = found.one_or_none()
    return None if row is None else ColdStartOrigin(*row)


async def traceparents_of(
    session: AsyncSession, request_ids: Collection[str]
) -> dict[str, str | None]:
    """By request: the trace in which an earlier start for it was, whichever leader began it."""
    if not request_ids:
        return {}
    rows = await session.execute(_TRACEPARENTS, {"request_ids": list(request_ids)})
    return {row.request_id: row.traceparent for row in rows if row.request_id is not None}
