"""What ended long ago is deleted: beside the rounds, in small batches with pauses between them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.store import retention
from services.scheduler.store.fenced_transactions import FencedTransactions, Lane

logger = logging.getLogger(__name__)

# With them a year's history goes in hours, and a batch holds locks for some hundredths of a second.
BATCH_ROWS = 200
PAUSE_S = 0.2

Delete = Callable[[AsyncSession, float, int], Awaitable[int]]


@dataclass
class Retention:
    """`work` is called now and then; with a retention of 0 everything is kept."""

    fenced: FencedTransactions
    retention_s: float
    pause_s: float = PAUSE_S
    _has_looked_at_manifests: bool = False

    async def work(self) -> None:
        """Raises DatabaseUnavailable, LeadershipLost."""
        if self.retention_s == 0:
            return
        await self._delete("requests", retention.delete_requests, Lane.HISTORY)
        await self._delete("endpoints", retention.delete_endpoints, Lane.HISTORY)
        await self._delete("prefetches", retention.delete_prefetches, Lane.HISTORY)
        await self._delete("hours of SLOs", retention.delete_slo_hours, Lane.HISTORY)
        await self._delete("hours of memory", retention.delete_memory_hours, Lane.HISTORY)
        # Plans and imports, which refer to models and manifests, are made in the lane of decisions.
        num_models = await self._delete("models", retention.delete_models, Lane.DECISIONS)
        # All of them are looked at, so once in a leader's life, and when one may have come free.
        if num_models or not self._has_looked_at_manifests:
            await self._delete("manifests", retention.delete_manifests, Lane.DECISIONS)
            self._has_looked_at_manifests = True

    async def _delete(self, what: str, delete: Delete, lane: Lane) -> int:
        total = 0
        while num_deleted := await self._delete_batch(delete, lane):
            total += num_deleted
            if num_deleted < BATCH_ROWS:
                break
            await asyncio.sleep(self.pause_s)
        if total:
            logger.info("deleted %d %s that ended long ago", total, what)
        return total

    async def _delete_batch(self, delete: Delete, lane: Lane) -> int:
        async with self.fenced.transaction(lane) as session:
            return await delete(session, self.retention_s, BATCH_ROWS)
