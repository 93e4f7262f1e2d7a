"""The health file: its time of change says that this process is in order."""

import asyncio
from pathlib import Path

from libs.common.clock import Clock

INTERVAL_S = 1.0
PATIENCE_S = 20.0  # a database restart is no reason to be killed


class Health:
    def __init__(self, path: Path | None, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._beat_at_s = clock.monotonic_s()

    def beat(self) -> None:
        """Something succeeded that proves the process works."""
        self._beat_at_s = self._clock.monotonic_s()

    @property
    def is_well(self) -> bool:
        return self._clock.monotonic_s() - self._beat_at_s <= PATIENCE_S

    async def run(self) -> None:
        while True:
            if self._path is not None and self.is_well:
                self._path.touch()
            await asyncio.sleep(INTERVAL_S)
