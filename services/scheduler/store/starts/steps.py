"""Rows of `cold_start_steps`, and what is heard of a cold start after it serves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import Step
from libs.common.records.tables import ColdStartStepRow
from services.scheduler.store.columns.text import storable

SCHEDULER_ACTOR = "scheduler"

_NEW_STEP = upsert(ColdStartStepRow)
_RECORD_STEP = _NEW_STEP.on_conflict_do_update(
    index_elements=["cold_start_id", "actor", "name"],
    set_={
        "started_at": _NEW_STEP.excluded.started_at,
        "ended_at": _NEW_STEP.excluded.ended_at,
        "detail": _NEW_STEP.excluded.detail,
    },
)
_RAISE_CACHED = text(
    """
    UPDATE cold_starts SET bytes_from_cache = cached
    FROM unnest(CAST(:ids AS text[]), CAST(:cached AS bigint[])) AS heard (cold_start_id, cached)
    WHERE id = cold_start_id AND bytes_from_cache < cached
    """
)


@dataclass(frozen=True)
class ActorStep:
    """A step and who did it: `scheduler`, `scheduler/<id>` (telling a node of the worker or fetch
    of that id), a worker's id, or `fetch/<fetch id>`. The stage says what belongs together."""

    cold_start_id: str
    actor: str
    node_id: str | None
    stage_index: int | None
    step: Step


async def raise_cached_bytes(session: AsyncSession, bytes_from_cache: Mapping[str, int]) -> None:
    """By cold start, of those whose fetches were heard of only after they had become ready."""
    if any(bytes_from_cache.values()):
        values = {"ids": list(bytes_from_cache), "cached": list(bytes_from_cache.values())}
        await session.execute(_RAISE_CACHED, values)


async def record_steps(session: AsyncSession, steps: Sequence[ActorStep]) -> None:
    """In one round trip, however many: a new leader hears those of the whole cluster at once."""
    # Of steps with one name the last counts.
    latest = {(s.cold_start_id, s.actor, s.step.name): _step_values(s) for s in steps}
    if latest:
        await (await session.connection()).execute(_RECORD_STEP, list(latest.values()))


def _step_values(item: ActorStep) -> dict[str, object]:
    return {
        "cold_start_id": item.cold_start_id,
        "actor": item.actor,
        "name": item.step.name,
        "node_id": item.node_id,
        "stage_index": item.stage_index,
        "started_at": item.step.started_at,
        "ended_at": item.step.ended_at,
        "detail": storable(item.step.detail),
    }
