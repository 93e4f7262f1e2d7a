"""Changes to rows of `endpoints` and of what they have; `fleet.py` reads them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import WorkerObserved
from libs.common.causes import Cause
from libs.common.records.tables import EndpointRow, FetchRow, ReservationRow, WorkerRow
from libs.common.states import EndpointState, WorkerState
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.store.ages import age_s, seconds
from services.scheduler.store.cause_columns import columns_of

_FINISHED = (EndpointState.STOPPED.value, EndpointState.FAILED.value)


def _first_in(states: Iterable[EndpointState]) -> Select[str]:
    query = select(EndpointRow.id).where(
        EndpointRow.model_id == bindparam("model_id"),
        EndpointRow.state.in_([state.value for state in states]),
        EndpointRow.state.not_in(_FINISHED),  # as the partial index says, so that it is used
    )
    return query.limit(1)


_SERVING = _first_in(state for state in EndpointState if state.is_serving)
_OPEN = _first_in(state for state in EndpointState if state.can_take_requests)


@dataclass(frozen=True)
class EndpointPast:
    """What is remembered of an endpoint, also after its end."""

    state: EndpointState
    epoch: int
    has_been_ready: bool


async def find_past(session: AsyncSession, endpoint_id: str) -> EndpointPast | None:
    query = select(EndpointRow.state, EndpointRow.epoch, EndpointRow.ready_at)
    row = (await session.execute(query.where(EndpointRow.id == endpoint_id))).one_or_none()
    if row is None:
        return None
    return EndpointPast(EndpointState(row.state), row.epoch, row.ready_at is not None)


async def has_serving(session: AsyncSession, model_id: str) -> bool:
    return await session.scalar(_SERVING, {"model_id": model_id}) is not None


async def has_open(session: AsyncSession, model_id: str) -> bool:
    """One that serves or starts."""
    return await session.scalar(_OPEN, {"model_id": model_id}) is not None


async def last_failure(session: AsyncSession, model_id: str) -> str | None:
    """The cause of the model's newest failed endpoint."""
    return await session.scalar(
        select(EndpointRow.cause)
        .where(EndpointRow.model_id == model_id, EndpointRow.state == EndpointState.FAILED)
        .order_by(EndpointRow.ended_at.desc())
        .limit(1)
    )


async def load_suspects(session: AsyncSession, model_id: str, within_s: float) -> frozenset[str]:
    """Nodes of workers with which the failure of one of the model's endpoints began lately."""
    rows = await session.scalars(
        select(WorkerRow.node_id)
        .join(EndpointRow, EndpointRow.id == WorkerRow.endpoint_id)
        .where(
            EndpointRow.model_id == model_id,
            EndpointRow.state == EndpointState.FAILED.value,
            age_s(EndpointRow.ended_at) < within_s,
            WorkerRow.id == EndpointRow.guilty_worker_id,
        )
    )
    return frozenset(rows)


# ------------------------------------------------------------ endpoint changes


async def set_serving(session: AsyncSession, endpoint: Endpoint) -> None:
    state = EndpointState.STANDALONE if endpoint.num_stages == 1 else EndpointState.PIPELINED
    idle_since = func.now() if endpoint.num_assigned == 0 else None
    await _set_endpoint(
        session, endpoint.id, state=state.value, ready_at=func.now(), idle_since=idle_since
    )


async def set_draining(session: AsyncSession, endpoint_id: str) -> None:
    await _set_endpoint(session, endpoint_id, state=EndpointState.DRAINING.value)


async def stop(session: AsyncSession, endpoint_id: str) -> None:
    """It ends as asked."""
    values = {"state": EndpointState.STOPPED.value, "ended_at": func.now()}
    await _set_endpoint(session, endpoint_id, **values)


async def fail(
    session: AsyncSession, endpoint_id: str, cause: Cause, guilty_worker_id: str | None
) -> None:
    """`guilty_worker_id`: of the worker that it began with, where somebody can say.

    That one has the cause, too, also if it says nothing itself.
    """
    values = {"state": EndpointState.FAILED.value, "ended_at": func.now()}
    guilty = {"guilty_worker_id": guilty_worker_id}
    await _set_endpoint(session, endpoint_id, **values, **columns_of(cause), **guilty)
    if guilty_worker_id is not None:
        row = update(WorkerRow).where(WorkerRow.id == guilty_worker_id)
        await session.execute(row.values(**columns_of(cause)))


async def set_busy(session: AsyncSession, endpoint_id: str) -> None:
    await _set_endpoint(session, endpoint_id, idle_since=None)


async def set_idle(session: AsyncSession, endpoint_id: str, idle_s: float) -> None:
    await _set_endpoint(session, endpoint_id, idle_since=func.now() - seconds(idle_s))


async def _set_endpoint(session: AsyncSession, endpoint_id: str, **values: Any) -> None:
    await session.execute(update(EndpointRow).where(EndpointRow.id == endpoint_id).values(**values))


# -------------------------------------------------------------- worker changes


async def record_worker(session: AsyncSession, observed: WorkerObserved) -> None:
    is_ready = observed.state in (WorkerState.READY, WorkerState.DRAINING)
    await session.execute(
        update(WorkerRow)
        .where(WorkerRow.id == observed.worker_id)
        .values(
            state=observed.state.value,
            pid=observed.pid,
            address=observed.address,
            public_key=observed.public_key,
            ready_at=func.coalesce(WorkerRow.ready_at, func.now()) if is_ready else None,
        )
    )


async def launch_worker(session: AsyncSession, worker_id: str) -> None:
    """From now on its node shall run it."""
    await session.execute(
        update(WorkerRow).where(WorkerRow.id == worker_id).values(is_launch_due=True)
    )


async def release_workers(session: AsyncSession, endpoint_id: str) -> None:
    """No longer desired, nor what is fetched for them; their memory stays reserved until they are
    seen to be gone."""
    for table in (WorkerRow, FetchRow):
        await session.execute(
            update(table)
            .where(table.endpoint_id == endpoint_id, table.is_desired)
            .values(is_desired=False)
        )


async def end_worker(session: AsyncSession, worker_id: str, cause: Cause | None) -> None:
    """Its process is gone: the row ends, with its fetches, and its memory is free. A cause that it
    has stays."""
    values: dict[str, Any] = {"state": WorkerState.STOPPED.value}
    if cause is not None:
        values = {"state": WorkerState.FAILED.value, **columns_of(cause)}
    await session.execute(
        update(WorkerRow)
        .where(WorkerRow.id == worker_id)
        .values(is_desired=False, ended_at=func.now(), **values)
    )
    await session.execute(
        update(FetchRow)
        .where(FetchRow.worker_id == worker_id, FetchRow.is_desired)
        .values(is_desired=False)
    )
    await session.execute(delete(ReservationRow).where(ReservationRow.worker_id == worker_id))
