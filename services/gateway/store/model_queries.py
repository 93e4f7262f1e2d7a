"""Reads rows of `models` for gateways: by name, by what changed, in pages of a tenant's.

Nothing here reads all models: each statement is bounded by its argument or its limit.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Select,
    TableValuedAlias,
    and_,
    case,
    func,
    literal,
    select,
    text,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import ModelFacts
from libs.common.records.database import Database
from libs.common.records.tables import EndpointRow, ModelRow
from libs.common.states import EndpointState, EngineChoice, ModelState
from services.gateway.store.arrays import texts
from services.gateway.store.model_entry import (
    ASKABLE_STATES,
    ListedModel,
    ModelEntry,
    ModelKey,
)
from services.gateway.store.model_facts import FactsReader

_Query = Select[*tuple[Any, ...]]
# As in the definition of the index by tenant and name, which Postgres uses only then.
EXISTS = text("models.state <> 'DELETING'")
_CAN_BE_ASKED = text(
    "models.state IN ('READY', 'IMPORTING') AND models.manifest_digest IS NOT NULL"
)
COLUMNS = (
    ModelRow.id.label("model_id"),
    ModelRow.tenant,
    ModelRow.name,
    ModelRow.source,
    ModelRow.state,
    ModelRow.cause,
    ModelRow.is_public,
    ModelRow.slo_ttft_ms,
    ModelRow.slo_tpot_ms,
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
    ModelRow.engine,
    ModelRow.chat_template_digest,
    ModelRow.import_bytes_done.label("bytes_done"),
    ModelRow.import_bytes_total.label("bytes_total"),
    ModelRow.backoff_until,
    ModelRow.manifest_digest,
    ModelRow.created_at,
    ModelRow.updated_at,
)
_TEMPLATE = case(
    (ModelRow.state.in_(tuple(state.value for state in ASKABLE_STATES)), ModelRow.chat_template)
).label("chat_template")
_FINISHED = tuple(state.value for state in EndpointState if state.is_finished)
# Of this moment: what is running may commit later, what is older is visible to every later read.
_HORIZON = text(
    """
    SELECT pg_snapshot_xmin(now)::text::bigint AS oldest_running_xid,
        pg_snapshot_xmax(now)::text::bigint AS next_xid,
        pg_postmaster_start_time() AS server_started_at
    FROM pg_current_snapshot() AS now
    """
)


@dataclass(frozen=True)
class Horizon:
    """Every change by a transaction below `oldest_running_xid` is visible to whoever reads after
    it was asked for; none from `next_xid` on was begun before. The server may be another one, or
    one that was restored, if `server_started_at` is not what it was."""

    oldest_running_xid: int
    next_xid: int
    server_started_at: datetime


@dataclass(frozen=True)
class ChangedModel:
    """A row that a transaction wrote last. It may be one that is being deleted."""

    xid: int
    model_id: str
    key: ModelKey


@dataclass(frozen=True)
class ModelQueries:
    """Every method raises DatabaseUnavailable."""

    database: Database
    facts: FactsReader = field(default_factory=FactsReader)

    async def find_all(self, keys: Collection[ModelKey]) -> dict[ModelKey, ModelEntry]:
        """Those of them that exist."""
        wanted = (
            func.unnest(texts([key.tenant for key in keys]), texts([key.name for key in keys]))
            .table_valued("tenant", "name", name="wanted")
            .render_derived()
        )
        async with self.database.transaction() as session:
            return {entry.key: entry for entry in await self._read(session, _named(wanted))}

    async def read_horizon(self) -> Horizon:
        async with self.database.transaction() as session:
            row = (await session.execute(_HORIZON)).one()
        return Horizon(**row._mapping)

    async def changed(
        self, since_xid: int, until_xid: int, after: ChangedModel | None, limit: int
    ) -> tuple[ChangedModel, ...]:
        """What transactions from `since_xid` on wrote, in their order, the next ones `after`."""
        place = tuple_(ModelRow.changed_xid, ModelRow.id)
        query = (
            select(ModelRow.changed_xid, ModelRow.id, ModelRow.tenant, ModelRow.name)
            .where(ModelRow.changed_xid >= since_xid, ModelRow.changed_xid < until_xid)
            .order_by(ModelRow.changed_xid, ModelRow.id)
            .limit(limit)
        )
        if after is not None:
            query = query.where(place > tuple_(literal(after.xid), literal(after.model_id)))
        return await self._changes(query)

    async def changed_last(
        self, before: ChangedModel | None, limit: int
    ) -> tuple[ChangedModel, ...]:
        """The most lately changed first, from `before` backwards."""
        place = tuple_(ModelRow.changed_xid, ModelRow.id)
        query = (
            select(ModelRow.changed_xid, ModelRow.id, ModelRow.tenant, ModelRow.name)
            .order_by(ModelRow.changed_xid.desc(), ModelRow.id.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(place < tuple_(literal(before.xid), literal(before.model_id)))
        return await self._changes(query)

    async def with_endpoints(self, limit: int) -> tuple[ModelKey, ...]:
        """Of models that have living endpoints, the newest first."""
        newest = func.max(EndpointRow.created_at)
        living = (
            select(EndpointRow.model_id, newest.label("newest"))
            .where(EndpointRow.state.not_in(_FINISHED))
            .group_by(EndpointRow.model_id)
            .order_by(newest.desc())
            .limit(limit)
            .subquery()
        )
        query = (
            select(ModelRow.tenant, ModelRow.name)
            .join(living, living.c.model_id == ModelRow.id)
            .where(EXISTS)
            .order_by(living.c.newest.desc())
        )
        async with self.database.transaction() as session:
            return tuple(ModelKey(*row) for row in await session.execute(query))

    async def page(self, tenant: str, after: str, limit: int) -> tuple[ModelEntry, ...]:
        """A tenant's models by name, from the first one that comes after `after`."""
        query = _page_of(select(*COLUMNS, _TEMPLATE), tenant, after, limit).where(EXISTS)
        async with self.database.transaction() as session:
            return await self._read(session, query)

    async def askable_page(self, tenant: str, after: str, limit: int) -> tuple[ListedModel, ...]:
        """As `page`, of those that can be asked."""
        query = _page_of(select(ModelRow.name, ModelRow.created_at), tenant, after, limit)
        async with self.database.transaction() as session:
            rows = await session.execute(query.where(EXISTS, _CAN_BE_ASKED))
            return tuple(ListedModel(**row._mapping) for row in rows)

    async def _changes(self, query: _Query) -> tuple[ChangedModel, ...]:
        async with self.database.transaction() as session:
            rows = await session.execute(query)
            return tuple(
                ChangedModel(row.changed_xid, row.id, ModelKey(row.tenant, row.name))
                for row in rows
            )

    async def _read(self, session: AsyncSession, query: _Query) -> tuple[ModelEntry, ...]:
        rows = (await session.execute(query)).all()
        digests = {row.manifest_digest for row in rows} - {None}
        facts = await self.facts.read(session, digests)
        return tuple(
            entry_of(row, facts.get(row.manifest_digest), row.chat_template) for row in rows
        )


def _named(wanted: TableValuedAlias) -> _Query:
    is_wanted = and_(ModelRow.tenant == wanted.c.tenant, ModelRow.name == wanted.c.name)
    return select(*COLUMNS, _TEMPLATE).select_from(wanted).join(ModelRow, is_wanted).where(EXISTS)


def _page_of(query: _Query, tenant: str, after: str, limit: int) -> _Query:
    is_next = and_(ModelRow.tenant == tenant, ModelRow.name > after)
    return query.where(is_next).order_by(ModelRow.name).limit(limit)


def entry_of(row: Any, facts: ModelFacts | None, chat_template: str | None) -> ModelEntry:
    """Of a row with COLUMNS."""
    values = {**row._mapping, "chat_template": chat_template, "summary": facts}
    states = {"state": ModelState(row.state), "engine": EngineChoice(row.engine)}
    return ModelEntry(**(values | states))
