"""Writes registered models, each with the outbox row that tells of it."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, insert, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import ModelsChanged
from libs.common.bus.subjects import MODELS_CHANGED, Service
from libs.common.ids import new_id
from libs.common.records.database import Database
from libs.common.records.outbox import enqueue
from libs.common.records.tables import ModelCommandRow, ModelRow
from libs.common.states import ModelCommandKind, ModelState
from services.gateway.errors import Conflict
from services.gateway.store.model_entry import ModelEntry
from services.gateway.store.model_facts import FactsReader
from services.gateway.store.model_queries import COLUMNS, entry_of

# What a failed start may have been due to.
_START_SETTINGS = {
    "engine",
    "full_memory_workers",
    "kv_cache_bytes",
    "max_context_tokens",
    "max_endpoints",
    "max_pipeline_size",
    "min_pipeline_size",
    "max_slots",
}
COMMAND_DEADLINE_S = 600.0  # then what there was no room for is not tried any more


@dataclass(frozen=True)
class ModelStore:
    """Every method raises DatabaseUnavailable."""

    database: Database
    _facts: FactsReader = field(default_factory=FactsReader)

    async def create(self, model_id: str, tenant: str, values: dict[str, Any]) -> ModelEntry:
        """`values` are columns as the API validated them. Raises Conflict for a taken name."""
        statement = insert(ModelRow).values(
            id=model_id, tenant=tenant, state=ModelState.IMPORTING.value, **values
        )
        try:
            async with self.database.transaction() as session:
                row = (await session.execute(statement.returning(*COLUMNS))).one()
                await _announce(session, model_id)
        except IntegrityError as exc:
            message = f"you already have a model named {values['name']!r}"
            raise Conflict(message, code="model_exists", param="name") from exc
        return entry_of(row, None, None)

    async def change(self, model_id: str, values: dict[str, Any]) -> ModelEntry | None:
        """None when the model is gone. It may start at once, however often it failed: what is
        changed may be what was wrong."""
        if _START_SETTINGS & values.keys():
            values = {**values, "num_failed_starts": 0, "backoff_until": None}
        statement = (
            update(ModelRow)
            .where(ModelRow.id == model_id, ModelRow.state != ModelState.DELETING.value)
            .values(**values)
            .returning(*COLUMNS)
            .execution_options(synchronize_session=False)
        )
        async with self.database.transaction() as session:
            row = (await session.execute(statement)).one_or_none()
            if row is None:
                return None
            facts = await self._facts.read(session, {row.manifest_digest} - {None})
            await _announce(session, model_id)
        return entry_of(row, facts.get(row.manifest_digest), None)

    async def ask(self, model_id: str, kind: ModelCommandKind) -> None:
        """The scheduler carries it out with its next look at all rows, and forgets it."""
        deadline_at = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, COMMAND_DEADLINE_S)
        new = upsert(ModelCommandRow).values(
            id=new_id("command"), model_id=model_id, kind=kind.value, deadline_at=deadline_at
        )
        # The last of its commands counts: one that is asked for again comes after all others.
        again = {
            "id": new.excluded.id,
            "created_at": func.now(),
            "deadline_at": new.excluded.deadline_at,
        }
        statement = new.on_conflict_do_update(index_elements=["model_id", "kind"], set_=again)
        async with self.database.transaction() as session:
            await session.execute(statement)
            await _announce(session, model_id)

    async def delete(self, model_id: str) -> bool:
        """Marks it; the scheduler drains its endpoints. Whether it was there."""
        return await self.change(model_id, {"state": ModelState.DELETING.value}) is not None


async def _announce(session: AsyncSession, model_id: str) -> None:
    message = ModelsChanged(model_ids=(model_id,))
    await enqueue(session, Service.GATEWAY, MODELS_CHANGED, None, message)
