"""Turns decisions into rows, and into messages that follow the commit.

Statements are batched over all decisions. If one of them cannot be carried out, each model's are
tried alone, so that bad data costs its own model this round and nobody else. A decision that no
longer fits the rows is dropped with a log line; the next round decides anew.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.database import is_conflict, is_unavailability
from services.scheduler.observation.trace_contexts import TraceContexts
from services.scheduler.policy import decisions as d
from services.scheduler.rounds.applied import Applied, RoundContext
from services.scheduler.rounds.batches.batch import carry_out
from services.scheduler.rounds.batches.batch_state import BatchState

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Applier:
    traces: TraceContexts

    async def apply(
        self, session: AsyncSession, context: RoundContext, decisions: Sequence[d.Decision]
    ) -> Applied:
        """Raises what makes Postgres unavailable, and nothing else."""
        try:
            async with session.begin_nested():
                return await self._carry_out(session, context, decisions)
        except Exception as exc:
            if _must_end(exc):
                raise
            logger.warning("a round's decisions are carried out model by model: %r", exc)
        return await self._apply_each(session, context, decisions)

    async def _apply_each(
        self, session: AsyncSession, context: RoundContext, decisions: Sequence[d.Decision]
    ) -> Applied:
        by_model: defaultdict[str, list[d.Decision]] = defaultdict(list)
        for decision in decisions:
            by_model[decision.model_id].append(decision)
        applied = Applied()
        for model_id, own in by_model.items():
            try:
                async with session.begin_nested():
                    applied.merge(await self._carry_out(session, context, own))
            except Exception as exc:
                if _must_end(exc):
                    raise
                logger.exception("decisions about model %s were not carried out", model_id)
                applied.dropped_models.add(model_id)
                applied.failed_models.add(model_id)
        return applied

    async def _carry_out(
        self, session: AsyncSession, context: RoundContext, decisions: Sequence[d.Decision]
    ) -> Applied:
        return await carry_out(BatchState(session, context, self.traces), decisions)


def _must_end(exc: Exception) -> bool:
    """Postgres is away. Two transactions that met (40xxx) cost one savepoint only."""
    return is_unavailability(exc) and not is_conflict(exc)
