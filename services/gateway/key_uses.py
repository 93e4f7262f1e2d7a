"""Notes when keys were used, to the minute, for whoever wants to know which ones can go."""

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from libs.common.errors import DatabaseUnavailable

logger = logging.getLogger(__name__)

INTERVAL_S = 60.0


class UseWriter(Protocol):
    async def write_uses(self, key_ids: Collection[str]) -> None:
        """They are used now. Raises DatabaseUnavailable."""


@dataclass
class KeyUses:
    writer: UseWriter
    interval_s: float = INTERVAL_S
    _used: set[str] = field(default_factory=set)  # ids, since the last writing

    def note(self, key_id: str) -> None:
        self._used.add(key_id)

    async def run(self) -> None:
        """Until cancelled. What Postgres does not take is told again by the next use."""
        while True:
            await asyncio.sleep(self.interval_s)
            used, self._used = self._used, set()
            try:
                if used:
                    await self.writer.write_uses(used)
            except DatabaseUnavailable as exc:
                logger.warning("the uses of %d keys are not noted: %s", len(used), exc)
