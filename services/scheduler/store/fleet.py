"""Endpoints with their workers, as one round of the reconciler sees them."""

from collections import defaultdict

from sqlalchemy import RowMapping, and_, func, select, union
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.tables import (
    ColdStartRow,
    EndpointRow,
    FetchRow,
    RequestRow,
    ReservationRow,
    WorkerRow,
)
from libs.common.states import EndpointState, FetchPurpose, WorkerState
from services.scheduler.policy.cluster import Endpoint, Worker
from services.scheduler.store.ages import age_s
from services.scheduler.store.requests import IS_ASSIGNED

_FINISHED = (EndpointState.STOPPED.value, EndpointState.FAILED.value)
# A union, where "or" would read every endpoint that there ever was.
_IN_FLEET = union(
    select(EndpointRow.id).where(EndpointRow.state.not_in(_FINISHED)),
    select(WorkerRow.endpoint_id).join(ReservationRow, ReservationRow.worker_id == WorkerRow.id),
)
_ENDPOINTS = (
    select(
        EndpointRow.id,
        EndpointRow.model_id,
        EndpointRow.epoch,
        EndpointRow.state,
        EndpointRow.max_slots,
        EndpointRow.num_stages,
        ColdStartRow.id.label("cold_start_id"),
        EndpointRow.ready_at.is_not(None).label("has_been_ready"),
        age_s(EndpointRow.idle_since).label("idle_s"),
    )
    .join(ColdStartRow, ColdStartRow.endpoint_id == EndpointRow.id, isouter=True)
    .where(EndpointRow.id.in_(_IN_FLEET))
    .order_by(EndpointRow.created_at, EndpointRow.id)
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
        FetchRow.id.label("fetch_id"),
        WorkerRow.address,
        WorkerRow.spec["max_context_tokens"].as_integer().label("context_tokens"),
        WorkerRow.spec["next"].as_string().is_not(None).label("is_linked"),
    )
    .join(ReservationRow, ReservationRow.worker_id == WorkerRow.id)
    .join(FetchRow, _IS_FOR_ITS_START, isouter=True)
    .order_by(WorkerRow.stage_index)
)
_NUM_ASSIGNED = (
    select(RequestRow.endpoint_id, func.count().label("num"))
    .where(IS_ASSIGNED)
    .group_by(RequestRow.endpoint_id)
)


async def load_fleet(session: AsyncSession) -> tuple[Endpoint, ...]:
    """Endpoints that live, and those that ended but still hold memory; oldest first."""
    workers = await _load_workers(session)
    num_assigned = {row.endpoint_id: row.num for row in await session.execute(_NUM_ASSIGNED)}
    return tuple(
        _endpoint(row._mapping, tuple(workers[row.id]), num_assigned.get(row.id, 0))
        for row in await session.execute(_ENDPOINTS)
    )


async def _load_workers(session: AsyncSession) -> defaultdict[str, list[Worker]]:
    """Of those with a reservation: a worker without one is gone."""
    found: defaultdict[str, list[Worker]] = defaultdict(list)
    for row in await session.execute(_WORKERS):
        worker = Worker(**{**row._mapping, "state": WorkerState(row.state)})
        found[worker.endpoint_id].append(worker)
    return found


def _endpoint(row: RowMapping, workers: tuple[Worker, ...], num_assigned: int) -> Endpoint:
    values = {**row, "state": EndpointState(row["state"])}
    return Endpoint(**values, workers=workers, num_assigned=num_assigned)
