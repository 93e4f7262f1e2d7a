"""Changes to rows of `endpoints` and of what they have; `fleet.py` reads them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import (
    Boolean,
    Select,
    String,
    Table,
    Update,
    bindparam,
    case,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import WorkerObserved
from libs.common.causes import Cause
from libs.common.records.tables import EndpointRow, FetchRow, ReservationRow, WorkerRow
from libs.common.states import EndpointState, WorkerState
from services.scheduler.store.arrays import is_among, is_one_of
from services.scheduler.store.cause_columns import columns_of

_FINISHED = (EndpointState.STOPPED.value, EndpointState.FAILED.value)


def _first_in(states: Iterable[EndpointState]) -> Select[str]:
    query = select(EndpointRow.id).where(
        EndpointRow.model_id == bindparam("model_id"),
        EndpointRow.state.in_([state.value for state in states]),
        EndpointRow.state.not_in(_FINISHED),  # as the partial index says, so that it is used
    )
    return query.limit(1)


_SET_IDLE = text(
    """
    UPDATE endpoints SET idle_since = now() - make_interval(secs => age_s)
    FROM unnest(CAST(:endpoints AS text[]), CAST(:ages_s AS float8[])) AS idle (endpoint_id, age_s)
    WHERE id = endpoint_id
    """
)
_LAUNCH = (
    update(WorkerRow)
    .where(is_among(WorkerRow.id, "worker_ids"))
    .values(is_launch_due=True)
    .execution_options(synchronize_session=False)
)
_SET_BUSY = (
    update(EndpointRow)
    .where(is_among(EndpointRow.id, "endpoint_ids"))
    .values(idle_since=None)
    .execution_options(synchronize_session=False)
)
_SERVING = _first_in(state for state in EndpointState if state.is_serving)
_OPEN = _first_in(state for state in EndpointState if state.can_take_requests)


@dataclass(frozen=True)
class EndpointHistory:
    """What is remembered of an endpoint, also after its end."""

    state: EndpointState
    epoch: int
    has_been_ready: bool


@dataclass(frozen=True)
class Serving:
    """An endpoint that serves from now on."""

    endpoint_id: str
    state: EndpointState
    is_idle: bool


async def find_past(session: AsyncSession, endpoint_id: str) -> EndpointHistory | None:
    query = select(EndpointRow.state, EndpointRow.epoch, EndpointRow.ready_at)
    row = (await session.execute(query.where(EndpointRow.id == endpoint_id))).one_or_none()
    if row is None:
        return None
    return EndpointHistory(EndpointState(row.state), row.epoch, row.ready_at is not None)


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


# ------------------------------------------------------------ endpoint changes


def _update_of(
    row_class: type[EndpointRow] | type[WorkerRow], key: str, values: dict[str, Any]
) -> Update:
    """Built once: of the row whose id is the parameter `key`."""
    table = cast(Table, row_class.__table__)
    return update(table).where(table.c.id == bindparam(key)).values(values)


_SET_SERVING = _update_of(
    EndpointRow,
    "endpoint",
    {
        "state": bindparam("new_state"),
        "ready_at": func.now(),
        "idle_since": case((bindparam("is_idle", type_=Boolean), func.now()), else_=None),
    },
)


async def set_serving(session: AsyncSession, serving: Sequence[Serving]) -> None:
    rows = [
        {"endpoint": x.endpoint_id, "new_state": x.state.value, "is_idle": x.is_idle}
        for x in serving
    ]
    await _update_many(session, _SET_SERVING, rows)


async def set_draining(session: AsyncSession, endpoint_id: str) -> None:
    await _set_endpoint(session, endpoint_id, state=EndpointState.DRAINING.value)


async def set_stopped(session: AsyncSession, endpoint_id: str) -> None:
    await _set_endpoint(
        session, endpoint_id, state=EndpointState.STOPPED.value, ended_at=func.now()
    )


async def set_failed(
    session: AsyncSession, endpoint_id: str, cause: Cause, guilty_worker_id: str | None
) -> None:
    """`guilty_worker_id`: of the worker that it began with, where somebody can say. That one has
    the cause, too, also if it says nothing itself."""
    await _set_endpoint(
        session,
        endpoint_id,
        state=EndpointState.FAILED.value,
        ended_at=func.now(),
        guilty_worker_id=guilty_worker_id,
        **columns_of(cause),
    )
    if guilty_worker_id is not None:
        row = update(WorkerRow).where(WorkerRow.id == guilty_worker_id)
        await session.execute(row.values(**columns_of(cause)))


async def set_busy(session: AsyncSession, endpoint_ids: Collection[str]) -> None:
    if endpoint_ids:
        await session.execute(_SET_BUSY, {"endpoint_ids": list(endpoint_ids)})


async def set_idle(session: AsyncSession, idle_s: Mapping[str, float]) -> None:
    """By endpoint: for how long each has been idle. One statement: a new leader may hear it of
    thousands at once."""
    if idle_s:
        ids, ages_s = list(idle_s), list(idle_s.values())
        await session.execute(_SET_IDLE, {"endpoints": ids, "ages_s": ages_s})


async def _set_endpoint(session: AsyncSession, endpoint_id: str, **values: Any) -> None:
    await session.execute(update(EndpointRow).where(EndpointRow.id == endpoint_id).values(**values))


# -------------------------------------------------------------- worker changes


_IS_READY = bindparam("is_ready", type_=Boolean)
_RECORD_WORKER = _update_of(
    WorkerRow,
    "worker",
    {
        "state": bindparam("new_state"),
        "pid": bindparam("new_pid"),
        "address": bindparam("new_address"),
        "public_key": bindparam("new_key"),
        "ready_at": case((_IS_READY, func.coalesce(WorkerRow.ready_at, func.now())), else_=None),
    },
)
_END_WORKER = _update_of(
    WorkerRow,
    "worker",
    {
        "state": bindparam("new_state"),
        "cause": func.coalesce(bindparam("new_cause", type_=String), WorkerRow.cause),
        "cause_kind": func.coalesce(bindparam("new_kind", type_=String), WorkerRow.cause_kind),
        "cause_facts": func.coalesce(bindparam("new_facts", type_=JSONB), WorkerRow.cause_facts),
        "is_desired": False,
        "ended_at": func.now(),
    },
)


async def record_workers(session: AsyncSession, observed: Sequence[WorkerObserved]) -> None:
    rows = [
        {
            "worker": seen.worker_id,
            "new_state": seen.state.value,
            "new_pid": seen.pid,
            "new_address": seen.address,
            "new_key": seen.public_key,
            "is_ready": seen.state in (WorkerState.READY, WorkerState.DRAINING),
        }
        for seen in observed
    ]
    await _update_many(session, _RECORD_WORKER, rows)


async def launch_workers(session: AsyncSession, worker_ids: Collection[str]) -> None:
    """From now on their nodes shall run them."""
    if worker_ids:
        await session.execute(_LAUNCH, {"worker_ids": list(worker_ids)})


async def release_workers(session: AsyncSession, endpoint_ids: Collection[str]) -> None:
    """No longer desired, nor what is fetched for them; their memory stays reserved until they are
    seen to be gone."""
    for table in (WorkerRow, FetchRow) if endpoint_ids else ():
        await session.execute(
            update(table)
            .where(is_one_of(table.endpoint_id, endpoint_ids), table.is_desired)
            .values(is_desired=False)
        )


async def end_workers(session: AsyncSession, causes: Mapping[str, Cause | None]) -> None:
    """By worker: why it is gone, None if as asked. Rows end, with their fetches, and memory is
    free. A cause that a worker has stays."""
    if not causes:
        return
    rows = [_end_of(worker_id, cause) for worker_id, cause in causes.items()]
    await _update_many(session, _END_WORKER, rows)
    await session.execute(
        update(FetchRow)
        .where(is_one_of(FetchRow.worker_id, causes), FetchRow.is_desired)
        .values(is_desired=False)
    )
    await session.execute(delete(ReservationRow).where(is_one_of(ReservationRow.worker_id, causes)))


def _end_of(worker_id: str, cause: Cause | None) -> dict[str, Any]:
    columns = {} if cause is None else columns_of(cause)
    return {
        "worker": worker_id,
        "new_state": (WorkerState.STOPPED if cause is None else WorkerState.FAILED).value,
        "new_cause": columns.get("cause"),
        "new_kind": columns.get("cause_kind"),
        "new_facts": columns.get("cause_facts"),
    }


async def _update_many(
    session: AsyncSession, statement: Update, rows: Sequence[dict[str, Any]]
) -> None:
    """One statement, executed for all rows in one round trip."""
    if rows:
        await (await session.connection()).execute(statement, rows)
