"""Tells a hung process from a busy one: its sign of life stays away many times in a row."""

import asyncio
from dataclasses import dataclass

from deploy.local.processes.readiness import Probe


@dataclass(frozen=True)
class HangDetector:
    """A process hangs once `sign_of_life` was missing at `max_misses` looks in a row: 30 s.

    Looks are counted and not seconds, so that a machine that slept, or a supervisor that was
    stopped itself, finds nobody guilty. It is longer than what the services cure among themselves:
    killing an agent kills its workers.
    """

    sign_of_life: Probe
    period_s: float = 2.0
    max_misses: int = 15

    async def until_hung(self) -> None:
        """Returns when it hangs. One that never gave a sign of life is still starting."""
        has_started, num_misses = False, 0
        while num_misses < self.max_misses:
            await asyncio.sleep(self.period_s)
            if await self.sign_of_life():
                has_started, num_misses = True, 0
            elif has_started:
                num_misses += 1
