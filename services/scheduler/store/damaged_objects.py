"""Rows of `damaged_objects`, and of the models that need such an object."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.tables import DamagedObjectRow, ModelRow
from libs.common.states import ModelState
from services.scheduler.store.columns.arrays import is_one_of
from services.scheduler.store.columns.text import storable

# Of a damaged object `d`: the manifests `m` that name it. As the index says, so that it is used.
_NEEDING: Final = """
    SELECT m.digest FROM manifests AS m
    WHERE d.key LIKE 'manifests/%' AND m.digest = split_part(d.key, '/', 2)
    UNION ALL
    SELECT m.digest FROM manifests AS m
    WHERE (jsonb_path_query_array(m.summary, '$.units[*].digest')
        || jsonb_path_query_array(m.summary, '$.tokenizer_files.*[0]'))
        @> jsonb_build_array(split_part(d.key, '/', 2))"""

_TAKE_SPOILED = text(
    f"""
    WITH taken AS (
        UPDATE damaged_objects SET is_handled = true
        WHERE NOT is_handled AND NOT is_whole RETURNING key)
    SELECT models.id AS model_id, min(d.key) AS key
    FROM taken AS d
        CROSS JOIN LATERAL ({_NEEDING}) AS needing
        JOIN models ON models.manifest_digest = needing.digest AND models.state = 'READY'
    GROUP BY models.id
    """
)
_NEEDED = text(
    f"""
    SELECT DISTINCT d.key FROM damaged_objects AS d
        CROSS JOIN LATERAL ({_NEEDING}) AS needing
    WHERE needing.digest = :digest ORDER BY d.key
    """
)
# Only a model that was READY has a manifest.
_REVIVE = text(
    f"""
    WITH healed AS (
        SELECT DISTINCT needing.digest FROM unnest(CAST(:keys AS text[])) AS d (key)
            CROSS JOIN LATERAL ({_NEEDING}) AS needing
    )
    UPDATE models SET state = 'READY', cause = NULL, updated_at = now()
    FROM healed
    WHERE models.state = 'FAILED' AND models.manifest_digest = healed.digest
        AND NOT EXISTS (
            SELECT FROM damaged_objects AS d CROSS JOIN LATERAL ({_NEEDING}) AS needing
            WHERE needing.digest = healed.digest)
    RETURNING models.id
    """
)


@dataclass(frozen=True)
class SpoiledModel:
    """A READY model that needs a damaged object."""

    model_id: str
    key: str  # of one such object


async def mark(session: AsyncSession, key: str, found_by: str, detail: str | None) -> None:
    """The object is damaged; models that need it are still to be put to import."""
    values = {
        "found_by": found_by,
        "detail": storable(detail),
        "is_handled": False,
        "is_whole": False,
    }
    statement = insert(DamagedObjectRow).values(key=key, **values)
    anew = {**values, "found_at": func.now()}
    await session.execute(statement.on_conflict_do_update(index_elements=["key"], set_=anew))


async def forget(session: AsyncSession, keys: Collection[str]) -> list[str]:
    """These are whole. The ids of models that are READY again, because only that was missing."""
    gone = await session.scalars(
        delete(DamagedObjectRow)
        .where(is_one_of(DamagedObjectRow.key, keys))
        .returning(DamagedObjectRow.key)
        .execution_options(synchronize_session=False)
    )
    healed = list(gone)
    return list(await session.scalars(_REVIVE, {"keys": healed})) if healed else []


async def forget_whole(session: AsyncSession) -> list[str]:
    """As `forget`, what the operator's verification has found to be whole."""
    keys = await session.scalars(
        select(DamagedObjectRow.key).where(DamagedObjectRow.is_whole.is_(True))
    )
    found = list(keys)
    return await forget(session, found) if found else []


async def needed_by(session: AsyncSession, manifest_digest: str) -> list[str]:
    """Keys of the damaged objects among those of the manifest."""
    return list(await session.scalars(_NEEDED, {"digest": manifest_digest}))


async def take_spoiled(session: AsyncSession) -> list[SpoiledModel]:
    """READY models that need what was marked since the last call."""
    return [SpoiledModel(**row._mapping) for row in await session.execute(_TAKE_SPOILED)]


async def import_again(session: AsyncSession, model_id: str, cause: str) -> bool:
    """READY → IMPORTING, by an import of its own; whether it was READY."""
    changed = await session.scalars(
        update(ModelRow)
        .where(ModelRow.id == model_id, ModelRow.state == ModelState.READY)
        .values(
            state=ModelState.IMPORTING.value,
            cause=cause,
            import_id=None,
            import_heard_at=None,
            import_bytes_done=0,
            import_bytes_total=0,
        )
        .returning(ModelRow.id)
        .execution_options(synchronize_session=False)
    )
    return changed.one_or_none() is not None
