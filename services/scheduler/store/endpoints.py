"""Changes to rows of `endpoints`; those of their workers are changed by `workers.py`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Boolean,
    Select,
    bindparam,
    case,
    func,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.causes import Cause
from libs.common.records.memory_pieces import idle_s_now
from libs.common.records.tables import EndpointRow, WorkerRow
from libs.common.states import EndpointState, StartPurpose
from services.scheduler.store.columns.arrays import is_among, run_for_all, update_by_id
from services.scheduler.store.columns.cause_columns import columns_of

_FINISHED = (EndpointState.STOPPED.value, EndpointState.FAILED.value)


def _first_in(states: Iterable[EndpointState]) -> Select[str]:
    query = select(EndpointRow.id).where(
        EndpointRow.model_id == bindparam("model_id"),
        EndpointRow.state.in_([state.value for state in states]),
        EndpointRow.state.not_in(_FINISHED),  # as the partial index says, so that it is used
    )
    return query.limit(1)


# A request that nobody has seen in between, because it was so short, counts as idle time. Workers
# may say that it was idle since before it was marked busy, or before it served: idle time begins
# after that, and keep-alive does not.
_SET_IDLE = text(
    """
    UPDATE endpoints SET idle_since = since, idle_s = idle_s + extract(epoch FROM
        CASE WHEN idle_since IS NULL
            THEN least(since - greatest(busy_at, ready_at), interval '0')
            ELSE greatest(since - idle_since, interval '0') END)
    FROM (
        SELECT endpoint_id, now() - make_interval(secs => age_s) AS since
        FROM unnest(CAST(:endpoints AS text[]), CAST(:ages_s AS float8[]))
            AS told (endpoint_id, age_s)
    ) AS idle
    WHERE id = endpoint_id
    """
)
_SET_BUSY = text(
    f"""
    UPDATE endpoints SET idle_s = {idle_s_now("endpoints")}, idle_since = NULL, busy_at = now()
    WHERE id = ANY(CAST(:endpoint_ids AS text[])) AND idle_since IS NOT NULL
    """
)
_SET_ASKED = (
    update(EndpointRow)
    .where(is_among(EndpointRow.id, "endpoint_ids"))
    .values(purpose=StartPurpose.REQUEST.value)
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


_SET_SERVING = update_by_id(
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
    await run_for_all(session, _SET_SERVING, rows)


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


async def set_asked(session: AsyncSession, endpoint_ids: Collection[str]) -> None:
    """Somebody waits by now for what was started for nobody."""
    await session.execute(_SET_ASKED, {"endpoint_ids": list(endpoint_ids)})


async def _set_endpoint(session: AsyncSession, endpoint_id: str, **values: Any) -> None:
    await session.execute(update(EndpointRow).where(EndpointRow.id == endpoint_id).values(**values))
