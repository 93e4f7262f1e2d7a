"""Rows of `consolidations`, with those of their members, their fetches and their endpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
from services.scheduler.policy.consolidation.decisions import (
    BeginConsolidation,
    CompleteConsolidation,
)
from services.scheduler.policy.consolidation.effects import sole_member
from services.scheduler.store.columns.arrays import is_one_of
from services.scheduler.store.columns.text import storable

_PIPELINES = (EndpointState.PIPELINED.value, EndpointState.CONSOLIDATING.value)
# Of one that has ended nothing is changed.
_END = text(
    """
    WITH told AS (
        SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:states AS text[]), CAST(:whys AS text[]),
            CAST(:counts AS bool[])) AS told (endpoint_id, state, why, is_retried)
    ), ended AS (
        UPDATE consolidations SET state = told.state, detail = told.why,
            is_retried = told.is_retried, ended_at = now()
        FROM told
        WHERE told.endpoint_id = consolidations.endpoint_id AND consolidations.ended_at IS NULL
        RETURNING consolidations.endpoint_id, consolidations.generation, consolidations.fetch_id
    ), fetched AS (
        UPDATE fetches SET is_desired = false FROM ended WHERE fetches.id = ended.fetch_id
    ), pipelined AS (
        UPDATE endpoints SET state = 'PIPELINED' FROM ended
        WHERE endpoints.id = ended.endpoint_id AND endpoints.state = 'CONSOLIDATING'
    )
    DELETE FROM endpoint_members AS members USING ended
    WHERE members.endpoint_id = ended.endpoint_id AND members.generation = ended.generation
    """
)


@dataclass(frozen=True)
class ConsolidationEnd:
    """Of one that came to nothing."""

    state: ConsolidationState
    why: str
    is_retried: bool = False  # after a back-off


async def begin(session: AsyncSession, begun: BeginConsolidation) -> None:
    """The members of the generation that it leads to first."""
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
    }
    await _add(session, begun.endpoint_id, values)
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


async def end(session: AsyncSession, ends: Mapping[str, ConsolidationEnd]) -> None:
    """By endpoint, of those that have an open one. Nothing is left of the generation that it would
    have led to; an endpoint that still serves is a pipeline."""
    if not ends:
        return
    known = list(ends.values())
    await session.execute(
        _END,
        {
            "ids": list(ends),
            "states": [one.state.value for one in known],
            "whys": [storable(one.why) for one in known],
            "counts": [one.is_retried for one in known],
        },
    )


async def complete(session: AsyncSession, done: CompleteConsolidation) -> None:
    """The entry is the endpoint, and has a row that says so, whoever had begun it."""
    await _write_member(session, done)
    found = await session.scalar(
        update(ConsolidationRow)
        .where(ConsolidationRow.endpoint_id == done.endpoint_id)
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


async def _make_whole(session: AsyncSession, done: CompleteConsolidation) -> None:
    """What is reserved for it stays the same: room for other layers is used by them now."""
    spec = {
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
    seen to be gone."""
    for table, worker_id in ((WorkerRow, WorkerRow.id), (FetchRow, FetchRow.worker_id)):
        await session.execute(
            update(table)
            .where(table.endpoint_id == done.endpoint_id, table.is_desired)
            .where(worker_id != done.worker_id)
            .values(is_desired=False)
            .execution_options(synchronize_session=False)
        )


async def _add(session: AsyncSession, endpoint_id: str, values: dict[str, object]) -> None:
    endpoint = select(EndpointRow.tenant, EndpointRow.model_id)
    row = (await session.execute(endpoint.where(EndpointRow.id == endpoint_id))).one()
    own = {"tenant": row.tenant, "model_id": row.model_id, "endpoint_id": endpoint_id}
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
    session: AsyncSession, decision: BeginConsolidation | CompleteConsolidation
) -> None:
    """Of the entry alone; it may be there."""
    member = sole_member(decision.worker_id, decision.num_layers)
    await session.execute(
        upsert(EndpointMemberRow)
        .values(
            endpoint_id=decision.endpoint_id,
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
