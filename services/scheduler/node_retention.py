"""Nodes that are silent for long are forgotten: what their host caches held, then all of them."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from services.scheduler.rounds.loop import RoundLoop
from services.scheduler.settings import DAY_S
from services.scheduler.store import host_cache, retention
from services.scheduler.store.fenced_transactions import Lane

logger = logging.getLogger(__name__)

HOST_CACHE_S = DAY_S  # of silence; shared memory rarely outlives it
BATCH_NODES = 50
BATCH_UNITS = 2_000  # a node may have more than a hundred thousand
PAUSE_S = 0.2
MIN_LISTENING_S = 30.0  # before anybody's silence means anything to a leader


@dataclass(frozen=True)
class NodeRetention:
    """`work` is called now and then; with a retention of 0 nodes are kept for ever."""

    rounds: RoundLoop
    retention_s: float
    pause_s: float = PAUSE_S
    min_listening_s: float = MIN_LISTENING_S

    async def work(self) -> None:
        """Raises DatabaseUnavailable, LeadershipLost."""
        if self.retention_s == 0 or self._listened_s < self.min_listening_s:
            return
        for node_id, has_cached_units in (await self._silent(HOST_CACHE_S)).items():
            if has_cached_units:
                await self._delete_cached_units(node_id)
        silent = list(await self._silent(self.retention_s))
        for begin in range(0, len(silent), BATCH_NODES):
            await self._delete_nodes(silent[begin : begin + BATCH_NODES])
            await asyncio.sleep(self.pause_s)

    @property
    def _listened_s(self) -> float:
        return self.rounds.log.liveness.heard_for_s

    async def _silent(self, silence_s: float) -> dict[str, bool]:
        """By their rows, which a new leader has yet to bring up to date, and as this one hears."""
        async with self.rounds.fenced.transaction(Lane.HISTORY) as session:
            silence_s = min(silence_s, self.retention_s)
            found = await retention.load_silent_nodes(session, silence_s, self._listened_s)
        return {id_: has for id_, has in found.items() if self._is_unheard(id_)}

    def _is_unheard(self, node_id: str) -> bool:
        return self.rounds.log.node_silence_s(node_id) >= self.min_listening_s

    async def _delete_cached_units(self, node_id: str) -> None:
        """In the lane of rounds, which write what a node that comes back has cached."""
        num_deleted = BATCH_UNITS
        while num_deleted == BATCH_UNITS and self._is_unheard(node_id):
            async with self.rounds.fenced.transaction(Lane.DECISIONS) as session:
                num_deleted = await host_cache.delete_units(session, node_id, BATCH_UNITS)
                self.rounds.records.forget_host_caches([node_id])
            await asyncio.sleep(self.pause_s)

    async def _delete_nodes(self, node_ids: Sequence[str]) -> None:
        async with self.rounds.fenced.transaction(Lane.DECISIONS) as session:
            unheard = [id_ for id_ in node_ids if self._is_unheard(id_)]
            deleted = await retention.delete_nodes(
                session, unheard, self.retention_s, self._listened_s
            )
            # Before the commit, which may be in doubt: what still has a row is read again.
            self.rounds.forget_nodes(deleted)
        if deleted:
            logger.info("forgot nodes that were silent for long: %s", ", ".join(sorted(deleted)))
