"""Rows of `prefetches` with those of their fetches, and which models may be asked soon."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.tables import FetchRow, ModelActivityRow, ModelRow, PrefetchRow
from libs.common.states import FetchClass, FetchPurpose, ModelState, PrefetchState
from services.scheduler.policy.prefetching.prefetch import MAX_EXPECTED, Prefetch
from services.scheduler.store.columns.ages import age_s, seconds
from services.scheduler.store.columns.text import storable

_OPEN = (
    select(
        *(PrefetchRow.id, PrefetchRow.tenant, PrefetchRow.model_id, PrefetchRow.node_id),
        *(PrefetchRow.fetch_id, PrefetchRow.file_bytes, PrefetchRow.state),
        *(FetchRow.manifest_digest, FetchRow.unit_digests),
        age_s(FetchRow.deadline_at).label("overdue_s"),
        age_s(PrefetchRow.expires_at).label("expired_s"),
    )
    .join(FetchRow, FetchRow.id == PrefetchRow.fetch_id)
    .where(PrefetchRow.ended_at.is_(None))
    .order_by(PrefetchRow.started_at, PrefetchRow.id)
)
_EXPECTED = (
    select(ModelActivityRow.model_id)
    .join(ModelRow, ModelRow.id == ModelActivityRow.model_id)
    .where(ModelActivityRow.prefetch_at <= func.now(), ModelActivityRow.prefetch_until > func.now())
    .where(ModelRow.is_keep_alive_auto, ModelRow.state == ModelState.READY.value)
    .order_by(ModelActivityRow.prefetch_until)
    .limit(MAX_EXPECTED)
)
_END = text(
    """
    WITH told AS (
        SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:states AS text[]), CAST(:whys AS text[]))
            AS told (id, state, why)
    ), fetched AS (
        UPDATE fetches SET is_desired = false FROM prefetches JOIN told ON told.id = prefetches.id
        WHERE fetches.id = prefetches.fetch_id
    )
    UPDATE prefetches SET state = told.state, detail = told.why,
        complete_at = CASE WHEN told.state = 'COMPLETE' THEN now() ELSE complete_at END,
        ended_at = CASE WHEN told.state = 'COMPLETE' THEN NULL ELSE now() END
    FROM told WHERE told.id = prefetches.id AND prefetches.ended_at IS NULL
    """
)


@dataclass(frozen=True)
class PrefetchEnd:
    state: PrefetchState  # or complete: then it is open still, and its fetch is not
    why: str


async def load_open(session: AsyncSession, now_s: float) -> list[Prefetch]:
    """The oldest first."""
    return [
        Prefetch(
            id=row.id,
            tenant=row.tenant,
            model_id=row.model_id,
            node_id=row.node_id,
            fetch_id=row.fetch_id,
            manifest_digest=row.manifest_digest,
            unit_digests=tuple(row.unit_digests),
            file_bytes=row.file_bytes,
            deadline_at_s=now_s - row.overdue_s,
            expires_at_s=now_s - row.expired_s,
            state=PrefetchState(row.state),
        )
        for row in await session.execute(_OPEN)
    ]


async def load_expected(session: AsyncSession) -> frozenset[str]:
    """Models that are likely to be asked soon, those first whose time is over first."""
    return frozenset(await session.scalars(_EXPECTED))


async def begin(session: AsyncSession, prefetches: Sequence[Prefetch], now_s: float) -> None:
    """All of them, with one statement for each table."""
    if not prefetches:
        return
    fetches = [_fetch(prefetch, now_s) for prefetch in prefetches]
    await session.execute(insert(FetchRow).values(fetches))
    await session.execute(insert(PrefetchRow).values([_row(p, now_s) for p in prefetches]))


async def end(session: AsyncSession, ends: Mapping[str, PrefetchEnd]) -> None:
    """By prefetch. Their nodes are not told of their fetches any more."""
    if not ends:
        return
    known = list(ends.values())
    await session.execute(
        _END,
        {
            "ids": list(ends),
            "states": [one.state.value for one in known],
            "whys": [storable(one.why) for one in known],
        },
    )


def _fetch(prefetch: Prefetch, now_s: float) -> dict[str, object]:
    return {
        "id": prefetch.fetch_id,
        "node_id": prefetch.node_id,
        "purpose": FetchPurpose.PREFETCH.value,
        "fetch_class": FetchClass.BACKGROUND.value,
        "manifest_digest": prefetch.manifest_digest,
        "unit_digests": list(prefetch.unit_digests),
        "deadline_at": func.now() + seconds(prefetch.deadline_at_s - now_s),
    }


def _row(prefetch: Prefetch, now_s: float) -> dict[str, object]:
    return {
        "id": prefetch.id,
        "tenant": prefetch.tenant,
        "model_id": prefetch.model_id,
        "node_id": prefetch.node_id,
        "fetch_id": prefetch.fetch_id,
        "file_bytes": prefetch.file_bytes,
        "state": prefetch.state.value,
        "expires_at": func.now() + seconds(prefetch.expires_at_s - now_s),
    }
