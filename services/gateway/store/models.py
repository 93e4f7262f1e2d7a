"""Registered models in Postgres: read whole for the registry, written with their outbox row."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import ModelsChanged, ModelSummary
from libs.common.bus.subjects import MODELS_CHANGED, Service
from libs.common.records.database import Database
from libs.common.records.outbox import enqueue
from libs.common.records.tables import ManifestRow, ModelRow
from libs.common.states import EngineChoice, ModelState
from services.gateway.errors import Conflict

# What a failed start may have been due to.
_START_SETTINGS = {
    "engine",
    "kv_cache_bytes",
    "max_context_tokens",
    "max_endpoints",
    "max_pipeline_size",
    "max_slots",
}


_ASKABLE = (ModelState.READY, ModelState.IMPORTING)  # with a summary, which a first import lacks


@dataclass(frozen=True)
class ModelEntry:
    """One model as the gateway knows it; `summary` is there from READY on."""

    model_id: str
    tenant: str
    name: str
    source: str
    state: ModelState
    cause: str | None
    is_public: bool
    slo_ttft_ms: int
    slo_tpot_ms: int
    keep_alive_s: float
    max_pipeline_size: int
    max_queue: int
    max_slots: int
    max_endpoints: int
    max_context_tokens: int | None
    kv_cache_bytes: int | None
    engine: EngineChoice
    chat_template_digest: str | None  # of the one it was given, if any
    bytes_done: int
    bytes_total: int
    backoff_until: datetime | None
    manifest_digest: str | None
    created_at: datetime
    updated_at: datetime
    summary: ModelSummary | None
    chat_template: str | None = None  # the one it was given, from READY on

    @property
    def can_be_asked(self) -> bool:
        """It is READY, or it was and is imported again while what lives of it serves."""
        return self.summary is not None and self.state in _ASKABLE

    @property
    def context_tokens(self) -> int:
        """What prompt and answer may have together: as set, as the checkpoint allows, and as the
        KV cache holds, where the last token needs no place. Only of a model with a summary."""
        assert self.summary is not None
        limits = [self.summary.max_context_tokens]
        if self.max_context_tokens is not None:
            limits.append(self.max_context_tokens)
        if self.kv_cache_bytes is not None:
            limits.append(self.kv_cache_bytes // max(1, self.summary.kv_bytes_per_token) + 1)
        return min(limits)


@dataclass(frozen=True)
class ModelStore:
    """Every method raises DatabaseUnavailable. Manifests and the templates of a digest never
    change: each is read once."""

    database: Database
    _summaries: dict[str, ModelSummary] = field(default_factory=dict)
    _templates: dict[str, str] = field(default_factory=dict)

    async def read_all(self) -> tuple[ModelEntry, ...]:
        """All that clients can see, the oldest first."""
        query = (
            select(ModelRow)
            .where(ModelRow.state != ModelState.DELETING.value)
            .order_by(ModelRow.created_at, ModelRow.id)
        )
        async with self.database.transaction() as session:
            rows = (await session.scalars(query)).all()
            await self._read_summaries(session, {row.manifest_digest for row in rows})
            ready = [row for row in rows if row.state in _ASKABLE and row.manifest_digest]
            await self._read_templates(session, {row.chat_template_digest for row in ready})
        return tuple(self._entry(row) for row in rows)

    async def _read_summaries(self, session: AsyncSession, digests: set[str | None]) -> None:
        """Those not known yet; those of models that are gone are dropped."""
        wanted = {digest for digest in digests if digest is not None}
        for digest in self._summaries.keys() - wanted:
            del self._summaries[digest]
        missing = wanted - self._summaries.keys()
        if missing:
            query = select(ManifestRow).where(ManifestRow.digest.in_(missing))
            for row in await session.scalars(query):
                self._summaries[row.digest] = ModelSummary.model_validate(row.summary)

    async def _read_templates(self, session: AsyncSession, digests: set[str | None]) -> None:
        """As with the summaries, of models that can be asked."""
        wanted = {digest for digest in digests if digest is not None}
        for digest in self._templates.keys() - wanted:
            del self._templates[digest]
        missing = wanted - self._templates.keys()
        if missing:
            named = ModelRow.chat_template_digest
            query = select(named, ModelRow.chat_template).where(named.in_(missing)).distinct()
            rows = (await session.execute(query)).all()
            self._templates.update({digest: text for digest, text in rows if digest and text})

    async def create(self, model_id: str, tenant: str, values: dict[str, Any]) -> ModelEntry:
        """`values` are columns as the API validated them. Raises Conflict for a taken name."""
        statement = insert(ModelRow).values(
            id=model_id, tenant=tenant, state=ModelState.IMPORTING.value, **values
        )
        try:
            async with self.database.transaction() as session:
                row = (await session.scalars(statement.returning(ModelRow))).one()
                await _announce(session, model_id)
        except IntegrityError as exc:
            message = f"you already have a model named {values['name']!r}"
            raise Conflict(message, code="model_exists", param="name") from exc
        return self._entry(row)

    async def change(self, model_id: str, values: dict[str, Any]) -> ModelEntry | None:
        """None when the model is gone. It may start at once, however often it failed: what is
        changed may be what was wrong."""
        if _START_SETTINGS & values.keys():
            values = {**values, "num_failed_starts": 0, "backoff_until": None}
        statement = (
            update(ModelRow)
            .where(ModelRow.id == model_id, ModelRow.state != ModelState.DELETING.value)
            .values(**values)
            .returning(ModelRow)
        )
        async with self.database.transaction() as session:
            row = await session.scalar(statement)
            if row is None:
                return None
            await _announce(session, model_id)
        return self._entry(row)

    async def delete(self, model_id: str) -> bool:
        """Marks it; the scheduler drains its endpoints. Whether it was there."""
        return await self.change(model_id, {"state": ModelState.DELETING.value}) is not None

    def _entry(self, row: ModelRow) -> ModelEntry:
        digest = row.manifest_digest
        entry = _entry(row, None if digest is None else self._summaries.get(digest))
        template = self._templates.get(row.chat_template_digest or "")
        return replace(entry, chat_template=template)


async def _announce(session: AsyncSession, model_id: str) -> None:
    message = ModelsChanged(model_ids=(model_id,))
    await enqueue(session, Service.GATEWAY, MODELS_CHANGED, None, message)


def _entry(row: ModelRow, summary: ModelSummary | None) -> ModelEntry:
    return ModelEntry(
        model_id=row.id,
        tenant=row.tenant,
        name=row.name,
        source=row.source,
        state=ModelState(row.state),
        cause=row.cause,
        is_public=row.is_public,
        slo_ttft_ms=row.slo_ttft_ms,
        slo_tpot_ms=row.slo_tpot_ms,
        keep_alive_s=row.keep_alive_s,
        max_pipeline_size=row.max_pipeline_size,
        max_queue=row.max_queue,
        max_slots=row.max_slots,
        max_endpoints=row.max_endpoints,
        max_context_tokens=row.max_context_tokens,
        kv_cache_bytes=row.kv_cache_bytes,
        engine=EngineChoice(row.engine),
        chat_template_digest=row.chat_template_digest,
        bytes_done=row.import_bytes_done,
        bytes_total=row.import_bytes_total,
        backoff_until=row.backoff_until,
        manifest_digest=row.manifest_digest,
        created_at=row.created_at,
        updated_at=row.updated_at,
        summary=summary,
    )
