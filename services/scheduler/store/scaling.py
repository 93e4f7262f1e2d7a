"""Rows of `model_commands` and `model_activity`, and which models have endpoints that nobody asked
for."""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from struct import pack, unpack

from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.tables import ModelActivityRow, ModelCommandRow, ModelRow
from libs.common.states import ModelCommandKind, ModelState
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.gap_history import NUM_BINS, GapHistory
from services.scheduler.policy.scaling.unasked import MAX_AHEAD, ModelCommand
from services.scheduler.store.columns.ages import age_s
from services.scheduler.store.columns.arrays import is_among

logger = logging.getLogger(__name__)

_FORMAT = f"<{2 * NUM_BINS}f"

_PINNED = select(ModelRow.id).where(ModelRow.min_endpoints > 0)
_COMMANDS = select(
    ModelCommandRow.id,
    ModelCommandRow.model_id,
    ModelCommandRow.kind,
    age_s(ModelCommandRow.deadline_at).label("overdue_s"),
).order_by(ModelCommandRow.created_at, ModelCommandRow.id)
_AHEAD = (
    select(ModelActivityRow.model_id)
    .join(ModelRow, ModelRow.id == ModelActivityRow.model_id)
    .where(ModelActivityRow.ahead_at <= func.now(), ModelActivityRow.ahead_until > func.now())
    .where(ModelRow.is_keep_alive_auto, ModelRow.state == ModelState.READY.value)
    .order_by(ModelActivityRow.ahead_at)
    .limit(MAX_AHEAD)
)
_ACTIVITIES = select(
    ModelActivityRow.model_id,
    ModelActivityRow.gaps,
    ModelActivityRow.restart_s,
    ModelActivityRow.late_s,
    ModelActivityRow.busy_s,
    ModelActivityRow.was_started_ahead,
    age_s(ModelActivityRow.idle_since).label("idle_s"),
).where(is_among(ModelActivityRow.model_id, "model_ids"))
_END_COMMANDS = (
    delete(ModelCommandRow)
    .where(is_among(ModelCommandRow.id, "command_ids"))
    .execution_options(synchronize_session=False)
)
# Ages are of the leader's clock, moments of the database's.
_WRITE = text(
    """
    INSERT INTO model_activity
        (model_id, gaps, idle_since, restart_s, late_s, busy_s, was_started_ahead, ahead_at,
        ahead_until, prefetch_at, prefetch_until)
    SELECT told.model_id, told.gaps, now() - make_interval(secs => told.idle_s), told.restart_s,
        told.late_s, told.busy_s, told.was_started_ahead,
        now() + make_interval(secs => told.ahead_in_s),
        now() + make_interval(secs => told.ahead_for_s),
        now() + make_interval(secs => told.prefetch_in_s),
        now() + make_interval(secs => told.prefetch_for_s)
    FROM unnest(CAST(:model_ids AS text[]), CAST(:gaps AS bytea[]), CAST(:idle_s AS float8[]),
        CAST(:restart_s AS float8[]), CAST(:late_s AS float8[]),
        CAST(:busy_s AS float8[]),
        CAST(:was_started_ahead AS bool[]),
        CAST(:ahead_in_s AS float8[]), CAST(:ahead_for_s AS float8[]),
        CAST(:prefetch_in_s AS float8[]), CAST(:prefetch_for_s AS float8[])) AS told
        (model_id, gaps, idle_s, restart_s, late_s, busy_s, was_started_ahead, ahead_in_s,
        ahead_for_s, prefetch_in_s, prefetch_for_s)
    JOIN models ON models.id = told.model_id
    ORDER BY told.model_id
    ON CONFLICT (model_id) DO UPDATE SET gaps = excluded.gaps, idle_since = excluded.idle_since,
        restart_s = excluded.restart_s, late_s = excluded.late_s,
        busy_s = excluded.busy_s,
        was_started_ahead = excluded.was_started_ahead,
        ahead_at = excluded.ahead_at, ahead_until = excluded.ahead_until,
        prefetch_at = excluded.prefetch_at, prefetch_until = excluded.prefetch_until
    """
)


async def load_pinned(session: AsyncSession) -> frozenset[str]:
    """Models that shall always have an endpoint."""
    return frozenset(await session.scalars(_PINNED))


async def load_commands(session: AsyncSession, now_s: float) -> dict[str, tuple[ModelCommand, ...]]:
    """By model, the oldest first."""
    found: defaultdict[str, list[ModelCommand]] = defaultdict(list)
    for row in await session.execute(_COMMANDS):
        try:
            kind = ModelCommandKind(row.kind)
        except ValueError:  # of a newer gateway; it must not cost the others their round
            if row.overdue_s < 0:
                logger.warning("command %s is of a kind that is not known: %r", row.id, row.kind)
            continue
        command = ModelCommand(row.id, row.model_id, kind, now_s - row.overdue_s)
        found[row.model_id].append(command)
    return {model_id: tuple(commands) for model_id, commands in found.items()}


async def load_ahead(session: AsyncSession) -> frozenset[str]:
    """Models that are expected to be asked soon."""
    return frozenset(await session.scalars(_AHEAD))


async def load_activities(
    session: AsyncSession, model_ids: Collection[str], now_s: float
) -> dict[str, ModelActivity]:
    """Of those of them that have any."""
    if not model_ids:
        return {}
    rows = await session.execute(_ACTIVITIES, {"model_ids": list(model_ids)})
    return {
        row.model_id: ModelActivity(
            gaps=_unpacked(row.gaps),
            idle_since_s=None if row.idle_s is None else now_s - row.idle_s,
            restart_s=row.restart_s,
            late_s=row.late_s,
            busy_s=row.busy_s,
            was_started_ahead=row.was_started_ahead,
        )
        for row in rows
    }


async def write_activities(
    session: AsyncSession, activities: Mapping[str, ModelActivity], now_s: float
) -> None:
    """One statement for all of them."""
    if not activities:
        return
    known = list(activities.values())
    await session.execute(
        _WRITE,
        {
            "model_ids": list(activities),
            "gaps": [_packed(one.gaps) for one in known],
            "idle_s": [None if x.idle_since_s is None else now_s - x.idle_since_s for x in known],
            "restart_s": [one.restart_s for one in known],
            "late_s": [one.late_s for one in known],
            "busy_s": [one.busy_s for one in known],
            "was_started_ahead": [one.was_started_ahead for one in known],
            "ahead_in_s": [_until(one.ahead_at_s, now_s) for one in known],
            "ahead_for_s": [_until(one.ahead_until_s, now_s) for one in known],
            "prefetch_in_s": [_until(one.prefetch_at_s, now_s) for one in known],
            "prefetch_for_s": [_until(one.prefetch_until_s, now_s) for one in known],
        },
    )


def _until(at_s: float | None, now_s: float) -> float | None:
    return None if at_s is None else at_s - now_s


async def end_commands(session: AsyncSession, command_ids: Iterable[str]) -> None:
    ids = list(command_ids)
    if ids:
        await session.execute(_END_COMMANDS, {"command_ids": ids})


def _packed(gaps: GapHistory) -> bytes:
    return pack(_FORMAT, *gaps.reached, *gaps.ended)


def _unpacked(packed: bytes) -> GapHistory:
    """Of a version with other bins nothing is kept: it is learnt again."""
    if len(packed) != 4 * 2 * NUM_BINS:
        return GapHistory()
    numbers = unpack(_FORMAT, packed)
    return GapHistory(numbers[:NUM_BINS], numbers[NUM_BINS:])
