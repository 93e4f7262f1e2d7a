"""Changes to rows of `workers`, and of what each has: its fetch and its reservation."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Boolean, String, bindparam, case, func, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import WorkerObserved
from libs.common.causes import Cause
from libs.common.records.tables import FetchRow, WorkerRow
from libs.common.states import WorkerState
from services.scheduler.store.accounting import memory_accounts
from services.scheduler.store.columns.arrays import is_among, is_one_of, run_for_all, update_by_id
from services.scheduler.store.columns.cause_columns import columns_of

_LAUNCH = (
    update(WorkerRow)
    .where(is_among(WorkerRow.id, "worker_ids"))
    .values(is_launch_due=True)
    .execution_options(synchronize_session=False)
)
_IS_READY = bindparam("is_ready", type_=Boolean)
_RECORD_WORKER = update_by_id(
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
_END_WORKER = update_by_id(
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
    await run_for_all(session, _RECORD_WORKER, rows)


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
    free and accounted for. A cause that a worker has stays."""
    if not causes:
        return
    rows = [_end_of(worker_id, cause) for worker_id, cause in causes.items()]
    await run_for_all(session, _END_WORKER, rows)
    await session.execute(
        update(FetchRow)
        .where(is_one_of(FetchRow.worker_id, causes), FetchRow.is_desired)
        .values(is_desired=False)
    )
    await memory_accounts.release(session, causes)


def _end_of(worker_id: str, cause: Cause | None) -> dict[str, Any]:
    columns = {} if cause is None else columns_of(cause)
    return {
        "worker": worker_id,
        "new_state": (WorkerState.STOPPED if cause is None else WorkerState.FAILED).value,
        "new_cause": columns.get("cause"),
        "new_kind": columns.get("cause_kind"),
        "new_facts": columns.get("cause_facts"),
    }
