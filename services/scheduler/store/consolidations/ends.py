"""Consolidations that come to nothing."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.states import ConsolidationState
from services.scheduler.store.columns.text import storable

# Of one that has ended nothing is changed.
_END = """
    WITH told AS (
        SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:states AS text[]), CAST(:whys AS text[]),
            CAST(:counts AS bool[])) AS told (id, state, why, is_retried)
    ), ended AS (
        UPDATE consolidations SET state = told.state, detail = told.why,
            is_retried = told.is_retried, ended_at = now()
        FROM told WHERE consolidations.{key} = told.id AND consolidations.ended_at IS NULL{which}
        RETURNING consolidations.*
    ), fetched AS (
        UPDATE fetches SET is_desired = false FROM ended WHERE fetches.id = ended.fetch_id
    ), pipelined AS (
        UPDATE endpoints SET state = 'PIPELINED' FROM ended
        WHERE endpoints.id = ended.endpoint_id AND endpoints.state = 'CONSOLIDATING'
            AND NOT ended.is_scale_up
    ), left_over AS (
        UPDATE workers SET is_desired = false FROM ended, endpoints
        WHERE workers.id = ended.worker_id AND ended.is_scale_up
            AND endpoints.id = ended.endpoint_id AND endpoints.generation >= ended.generation
        RETURNING workers.id
    ), left_fetched AS (
        UPDATE fetches SET is_desired = false FROM left_over
        WHERE fetches.worker_id = left_over.id AND fetches.purpose = 'start'
    )
    DELETE FROM endpoint_members AS members USING ended
    WHERE members.endpoint_id = ended.endpoint_id AND members.generation = ended.generation
        AND NOT ended.is_scale_up
"""
_END_THESE = text(_END.format(key="id", which=""))
_END_OF_ENDPOINTS = text(_END.format(key="endpoint_id", which=""))
_END_SCALE_UPS_OF_WORKERS = text(
    _END.format(key="worker_id", which=" AND consolidations.is_scale_up")
)


@dataclass(frozen=True)
class ConsolidationEnd:
    """Of one that came to nothing."""

    state: ConsolidationState
    why: str
    is_retried: bool = False  # after a back-off


async def end(session: AsyncSession, ends: Mapping[str, ConsolidationEnd]) -> None:
    """By id, of those that are open. Nothing is left of the generation that they would have led to:
    an endpoint that still serves is a pipeline, and a worker that was left of one ends."""
    await _end(session, _END_THESE, ends)


async def end_of_endpoints(session: AsyncSession, ends: Mapping[str, ConsolidationEnd]) -> None:
    """All that are open of these endpoints."""
    await _end(session, _END_OF_ENDPOINTS, ends)


async def end_scale_ups_of_workers(session: AsyncSession, worker_ids: Collection[str]) -> None:
    """Of those whose processes have ended."""
    failed = ConsolidationEnd(ConsolidationState.FAILED, "its worker ended")
    await _end(session, _END_SCALE_UPS_OF_WORKERS, dict.fromkeys(worker_ids, failed))


async def _end(
    session: AsyncSession, statement: TextClause, ends: Mapping[str, ConsolidationEnd]
) -> None:
    if not ends:
        return
    known = list(ends.values())
    await session.execute(
        statement,
        {
            "ids": list(ends),
            "states": [one.state.value for one in known],
            "whys": [storable(one.why) for one in known],
            "counts": [one.is_retried for one in known],
        },
    )
