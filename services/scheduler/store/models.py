"""Rows of `models` and `manifests`."""

import logging
from collections.abc import Collection
from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy import ColumnElement, RowMapping, bindparam, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import ModelSummary
from libs.common.records.tables import ManifestRow, ModelRow
from libs.common.states import EngineChoice, ModelState
from services.scheduler.policy.cluster import Model
from services.scheduler.policy.failures.backoff import Backoff
from services.scheduler.store.columns.ages import age_s, seconds
from services.scheduler.store.columns.arrays import is_among, is_one_of
from services.scheduler.store.columns.text import storable

logger = logging.getLogger(__name__)

_COLUMNS = (
    ModelRow.id,
    ModelRow.tenant,
    ModelRow.name,
    ModelRow.engine.label("engine_choice"),
    ModelRow.state,
    ModelRow.cause,
    (ModelRow.slo_ttft_ms / 1000.0).label("slo_ttft_s"),
    (ModelRow.slo_tpot_ms / 1000.0).label("slo_tpot_s"),
    ModelRow.keep_alive_s,
    ModelRow.is_keep_alive_auto,
    ModelRow.min_pipeline_size,
    ModelRow.max_pipeline_size,
    ModelRow.full_memory_workers,
    ModelRow.max_queue,
    ModelRow.max_slots,
    ModelRow.max_endpoints,
    ModelRow.min_endpoints,
    ModelRow.max_context_tokens,
    ModelRow.kv_cache_bytes,
    ModelRow.manifest_digest,
    ModelRow.num_failed_starts,
    (-age_s(ModelRow.backoff_until)).label("backoff_remaining_s"),
)


_FIND = select(*_COLUMNS).where(ModelRow.id == bindparam("model_id"))
_LOAD = select(*_COLUMNS).where(is_among(ModelRow.id, "model_ids"))
_HAS_FAILED = or_(ModelRow.num_failed_starts != 0, ModelRow.backoff_until.is_not(None))
_CLEAR_BACKOFF = (
    update(ModelRow)
    .where(is_among(ModelRow.id, "model_ids"), _HAS_FAILED)
    .values(num_failed_starts=0, backoff_until=None)
    .execution_options(synchronize_session=False)
)


@dataclass(frozen=True)
class PendingImport:
    model_id: str
    import_id: str | None
    source: str
    tenant: str
    is_public: bool
    manifest_digest: str | None  # that it had when its objects were found damaged


@dataclass(frozen=True)
class RunningImport:
    manifest_digest: str | None  # as above


async def find(session: AsyncSession, model_id: str, now_s: float) -> Model | None:
    """`now_s`: monotonic, for the moments in the value."""
    row = (await session.execute(_FIND, {"model_id": model_id})).one_or_none()
    return None if row is None else _model(row._mapping, now_s)


async def load(session: AsyncSession, model_ids: Collection[str], now_s: float) -> dict[str, Model]:
    if not model_ids:
        return {}
    found = {}
    for row in await session.execute(_LOAD, {"model_ids": list(model_ids)}):
        try:
            found[row.id] = _model(row._mapping, now_s)
        except ValueError as exc:  # of another version of this software: it costs its own model
            logger.error("the row of model %s cannot be read: %s", row.id, exc)
    return found


async def load_summaries(
    session: AsyncSession, manifest_digests: Collection[str]
) -> dict[str, ModelSummary]:
    """By digest. A row that this version cannot read is left out: it costs its own model alone."""
    if not manifest_digests:
        return {}
    query = select(ManifestRow.digest, ManifestRow.summary).where(
        is_one_of(ManifestRow.digest, manifest_digests)
    )
    found = {}
    for row in await session.execute(query):
        try:
            found[row.digest] = ModelSummary.model_validate(row.summary)
        except ValidationError as exc:
            logger.error("the summary of manifest %s cannot be read: %s", row.digest, exc)
    return found


async def set_backoff(session: AsyncSession, model_id: str, backoff: Backoff) -> None:
    """`backoff_until` is set at every failure: it also says when the last one was."""
    await session.execute(
        update(ModelRow)
        .where(ModelRow.id == model_id)
        .values(
            num_failed_starts=backoff.num_failed_starts,
            backoff_until=func.now() + seconds(backoff.delay_s),
        )
    )


async def clear_backoff(session: AsyncSession, model_ids: Collection[str]) -> None:
    """Of those that back off, or did."""
    await session.execute(_CLEAR_BACKOFF, {"model_ids": list(model_ids)})


# ---------------------------------------------------------------------- imports


async def take_silent_imports(session: AsyncSession, silence_s: float) -> list[PendingImport]:
    """Imports that nobody reported on for that long; each counts as heard from now on."""
    heard_at = ModelRow.import_heard_at
    is_silent = or_(heard_at.is_(None), heard_at < func.now() - seconds(silence_s))
    rows = await session.execute(
        update(ModelRow)
        .where(ModelRow.state == ModelState.IMPORTING, is_silent)
        .values(import_heard_at=func.now())
        .returning(
            ModelRow.id.label("model_id"),
            ModelRow.import_id,
            ModelRow.source,
            ModelRow.tenant,
            ModelRow.is_public,
            ModelRow.manifest_digest,
        )
        .execution_options(synchronize_session=False)
    )
    return [PendingImport(**row._mapping) for row in rows]


async def load_import_ids(session: AsyncSession) -> frozenset[str]:
    """Of imports that have not ended."""
    query = select(ModelRow.import_id).where(
        ModelRow.state == ModelState.IMPORTING, ModelRow.import_id.is_not(None)
    )
    return frozenset(id_ for id_ in await session.scalars(query) if id_ is not None)


async def forget_import_put(session: AsyncSession, model_id: str) -> None:
    """The job did not reach the queue: the next round tries again."""
    await session.execute(
        update(ModelRow).where(_is_importing(model_id)).values(import_heard_at=None)
    )


async def set_import_id(session: AsyncSession, model_id: str, import_id: str) -> None:
    await session.execute(
        update(ModelRow).where(_is_importing(model_id)).values(import_id=import_id)
    )


async def set_import_progress(
    session: AsyncSession, model_id: str, import_id: str, bytes_done: int, bytes_total: int
) -> None:
    await session.execute(
        update(ModelRow)
        .where(_is_importing(model_id), ModelRow.import_id == import_id)
        .values(
            import_bytes_done=bytes_done,
            import_bytes_total=bytes_total,
            import_heard_at=func.now(),
        )
    )


async def lock_importing(
    session: AsyncSession, model_id: str, import_id: str
) -> RunningImport | None:
    """The model's import, if that one has not ended."""
    query = (
        select(ModelRow.manifest_digest)
        .where(_is_importing(model_id), ModelRow.import_id == import_id)
        .with_for_update()
    )
    row = (await session.execute(query)).one_or_none()
    return None if row is None else RunningImport(row.manifest_digest)


async def finish_import(
    session: AsyncSession, model_id: str, import_id: str, digest: str, summary: ModelSummary
) -> bool:
    """READY with its manifest, and all its bytes done: a short import may have told of none.

    False when the import is stale or was finished before."""
    stored_bytes = sum(unit.size_bytes for unit in summary.units)
    await session.execute(
        insert(ManifestRow)
        .values(digest=digest, summary=summary.model_dump(mode="json"))
        .on_conflict_do_nothing()
    )
    return await _end_import(
        session,
        model_id,
        import_id,
        state=ModelState.READY.value,
        cause=None,
        manifest_digest=digest,
        import_bytes_done=stored_bytes,
        import_bytes_total=stored_bytes,
    )


async def fail_import(session: AsyncSession, model_id: str, import_id: str, cause: str) -> bool:
    """FAILED with its cause; False when the import is stale or was finished before."""
    return await _end_import(
        session, model_id, import_id, state=ModelState.FAILED.value, cause=storable(cause)
    )


async def _end_import(
    session: AsyncSession, model_id: str, import_id: str, **values: object
) -> bool:
    done = await session.scalars(
        update(ModelRow)
        .where(_is_importing(model_id), ModelRow.import_id == import_id)
        .values(**values)
        .returning(ModelRow.id)
        .execution_options(synchronize_session=False)
    )
    return done.one_or_none() is not None


def _is_importing(model_id: str) -> ColumnElement[bool]:
    return (ModelRow.id == model_id) & (ModelRow.state == ModelState.IMPORTING)


def _model(row: RowMapping, now_s: float) -> Model:
    state, engine_choice = ModelState(row["state"]), EngineChoice(row["engine_choice"])
    values = {**row, "state": state, "engine_choice": engine_choice}
    remaining_s = values.pop("backoff_remaining_s")
    return Model(**values, backoff_until_s=None if remaining_s is None else now_s + remaining_s)
