"""Consolidations that begin, go on and are complete."""

from collections.abc import Sequence

from sqlalchemy import ScalarSelect, func, insert, literal, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.tables import (
    ConsolidationRow,
    EndpointMemberRow,
    EndpointRow,
    FetchRow,
    WorkerRow,
)
from libs.common.states import (
    ConsolidationState,
    EndpointState,
    FetchClass,
    FetchPurpose,
    MemberRole,
)
from services.scheduler.policy.cluster import FIRST_EPOCH
from services.scheduler.policy.consolidation.decisions import (
    BeginConsolidation,
    CompleteConsolidation,
    SeparateWorker,
)
from services.scheduler.policy.consolidation.effects import sole_member
from services.scheduler.store.accounting import memory_accounts
from services.scheduler.store.columns.arrays import is_one_of
from services.scheduler.store.columns.text import storable

_PIPELINES = (EndpointState.PIPELINED.value, EndpointState.CONSOLIDATING.value)
_ADD_CHILD = text(
    """
    INSERT INTO endpoints (id, tenant, model_id, parent_id, epoch, generation, state, max_slots,
        num_stages)
    SELECT :child_id, tenant, model_id, id, :epoch, :generation, 'STARTING', max_slots, 1
    FROM endpoints WHERE id = :parent_id
    """
)
_MOVE_WORKER = text("UPDATE workers SET endpoint_id = :child_id WHERE id = :worker_id")
_MOVE_FETCHES = text("UPDATE fetches SET endpoint_id = :child_id WHERE worker_id = :worker_id")


async def begin(session: AsyncSession, begun: BeginConsolidation) -> None:
    """The members of the generation that it leads to first."""
    if not begun.is_scale_up:
        await _write_member(session, begun)
    await session.execute(
        insert(FetchRow).values(
            id=begun.fetch_id,
            node_id=begun.node_id,
            endpoint_id=begun.endpoint_id,
            worker_id=begun.worker_id,
            purpose=FetchPurpose.CONSOLIDATION.value,
            fetch_class=FetchClass.BACKGROUND.value,
            manifest_digest=_spec_of(begun.worker_id, "manifest_digest"),
            unit_digests=list(begun.unit_digests),
            traceparent=_spec_of(begun.worker_id, "traceparent"),
        )
    )
    values = _values(begun) | {
        "fetch_id": begun.fetch_id,
        "state": ConsolidationState.LOADING.value,
        "load_bytes": begun.load_bytes,
        "expected_s": begun.expected_s,
        "timeout_s": begun.timeout_s,
        "is_scale_up": begun.is_scale_up,
    }
    await _add(session, begun.endpoint_id, values)
    if begun.is_scale_up:
        return
    await session.execute(
        update(EndpointRow)
        .where(EndpointRow.id == begun.endpoint_id)
        .where(EndpointRow.state == EndpointState.PIPELINED.value)
        .values(state=EndpointState.CONSOLIDATING.value)
    )


async def set_copying(session: AsyncSession, consolidation_ids: Sequence[str]) -> None:
    if consolidation_ids:
        await session.execute(
            update(ConsolidationRow)
            .where(is_one_of(ConsolidationRow.id, consolidation_ids))
            .where(ConsolidationRow.state == ConsolidationState.LOADING.value)
            .values(state=ConsolidationState.COPYING.value, copying_at=func.now())
        )


async def complete(session: AsyncSession, done: CompleteConsolidation) -> None:
    """The entry is the endpoint, and has a row that says so, whoever had begun it."""
    await _write_member(session, done)
    found = await session.scalar(
        update(ConsolidationRow)
        .where(ConsolidationRow.worker_id == done.worker_id)
        .where(ConsolidationRow.ended_at.is_(None))
        .values(
            state=ConsolidationState.COMPLETE.value, detail=storable(done.why), ended_at=func.now()
        )
        .returning(ConsolidationRow.id)
    )
    if found is None:
        values = _values(done) | {
            "state": ConsolidationState.COMPLETE.value,
            "load_bytes": 0,
            "timeout_s": 0.0,
            "ended_at": func.now(),
        }
        await _add(session, done.endpoint_id, values)
    await session.execute(
        update(EndpointRow)
        .where(EndpointRow.id == done.endpoint_id)
        .values(generation=done.generation, num_stages=1)
    )
    await session.execute(
        update(EndpointRow)
        .where(EndpointRow.id == done.endpoint_id, EndpointRow.state.in_(_PIPELINES))
        .values(state=EndpointState.STANDALONE.value)
    )
    await _make_whole(session, done)
    await _release_others(session, done)


async def separate(session: AsyncSession, done: SeparateWorker) -> None:
    """The worker, its reservation and its fetches are of the new endpoint from now on."""
    await memory_accounts.count_held(session, [done.worker_id])
    child = {
        "child_id": done.child_id,
        "parent_id": done.endpoint_id,
        "epoch": FIRST_EPOCH,
        "generation": done.generation,
    }
    await session.execute(_ADD_CHILD, child)
    await _write_member(session, done, done.child_id)
    await _make_whole(session, done, endpoint_id=done.child_id, endpoint_epoch=FIRST_EPOCH)
    moved = {"worker_id": done.worker_id, "child_id": done.child_id}
    for statement in (_MOVE_WORKER, _MOVE_FETCHES):
        await session.execute(statement, moved)
    # From now on idle time of the new endpoint counts.
    await memory_accounts.count_held(session, [done.worker_id])
    await session.execute(
        update(ConsolidationRow)
        .where(ConsolidationRow.id == done.consolidation_id, ConsolidationRow.ended_at.is_(None))
        .values(
            state=ConsolidationState.COMPLETE.value, detail=storable(done.why), ended_at=func.now()
        )
    )


async def _make_whole(
    session: AsyncSession, done: CompleteConsolidation | SeparateWorker, **own: object
) -> None:
    """What is reserved for it stays the same: room for other layers is used by them now."""
    spec = {
        **own,
        "generation": done.generation,
        "role": MemberRole.ENTRY.value,
        "stage_index": 0,
        "num_stages": 1,
        "layers": {"first_layer": 0, "last_layer": done.num_layers},
        "unit_digests": list(done.unit_digests),
        "kv_bytes": done.kv_bytes,
        "spare_bytes": 0,
        "previous": None,
        "next": None,
    }
    await session.execute(
        update(WorkerRow)
        .where(WorkerRow.id == done.worker_id)
        .values(spec=WorkerRow.spec.op("||")(literal(spec, JSONB)), stage_index=0)
        .execution_options(synchronize_session=False)
    )


async def _release_others(session: AsyncSession, done: CompleteConsolidation) -> None:
    """No longer desired, nor what is fetched for them; their memory stays reserved until they are
    seen to be gone. Those that are to be endpoints of their own stay."""
    growing = select(ConsolidationRow.worker_id).where(
        ConsolidationRow.endpoint_id == done.endpoint_id,
        ConsolidationRow.is_scale_up,
        ConsolidationRow.ended_at.is_(None),
    )
    for table, worker_id in ((WorkerRow, WorkerRow.id), (FetchRow, FetchRow.worker_id)):
        await session.execute(
            update(table)
            .where(table.endpoint_id == done.endpoint_id, table.is_desired)
            .where(worker_id != done.worker_id, worker_id.not_in(growing))
            .values(is_desired=False)
            .execution_options(synchronize_session=False)
        )


async def _add(session: AsyncSession, endpoint_id: str, values: dict[str, object]) -> None:
    endpoint = select(EndpointRow.tenant, EndpointRow.model_id)
    row = (await session.execute(endpoint.where(EndpointRow.id == endpoint_id))).one()
    before = select(func.count()).where(
        ConsolidationRow.worker_id == values["worker_id"],
        ConsolidationRow.generation == values["generation"],
    )
    own = {
        "tenant": row.tenant,
        "model_id": row.model_id,
        "endpoint_id": endpoint_id,
        "attempt": 1 + (await session.scalar(before) or 0),
    }
    await session.execute(insert(ConsolidationRow).values(**own, **values))


def _values(decision: BeginConsolidation | CompleteConsolidation) -> dict[str, object]:
    return {
        "id": decision.consolidation_id,
        "generation": decision.generation,
        "worker_id": decision.worker_id,
        "why": storable(decision.why),
        "freed_bytes": decision.freed_bytes,
        "kv_bytes": decision.kv_bytes,
    }


async def _write_member(
    session: AsyncSession,
    decision: BeginConsolidation | CompleteConsolidation | SeparateWorker,
    endpoint_id: str | None = None,
) -> None:
    """Of that worker alone; it may be there. `endpoint_id`: where it is another one's."""
    member = sole_member(decision.worker_id, decision.num_layers)
    await session.execute(
        upsert(EndpointMemberRow)
        .values(
            endpoint_id=endpoint_id or decision.endpoint_id,
            generation=decision.generation,
            worker_id=member.worker_id,
            role=member.role.value,
            stage_index=member.stage_index,
            first_layer=member.first_layer,
            last_layer=member.last_layer,
            memory=member.memory.value,
        )
        .on_conflict_do_nothing()
    )


def _spec_of(worker_id: str, name: str) -> ScalarSelect[str]:
    """Of what the worker was told to run."""
    value = WorkerRow.spec[name].as_string()
    return select(value).where(WorkerRow.id == worker_id).scalar_subquery()
