"""Notices a worker process that hangs: not ready in time, or silent."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

_NUM_INTERVALS = 10


@dataclass(frozen=True)
class Patience:
    """How long an agent waits for a worker process that should have said something."""

    start_grace_s: float = 2.0  # beyond the start's own limit: the runtime knows the better cause
    silence_s: float = 15.0  # a process that runs says something each second


PATIENCE = Patience()


class Watchdog:
    """Silence is counted in intervals, so that an agent that was frozen itself blames nobody."""

    def __init__(self, patience: Patience, start_timeout_s: float) -> None:
        self._patience, self._start_timeout_s = patience, start_timeout_s
        self._num_signs = 0

    def note_life(self) -> None:
        self._num_signs += 1

    async def trouble(self, is_starting: Callable[[], bool]) -> str:
        """Returns when something is wrong, and says what."""
        loop = asyncio.get_running_loop()
        start_limit_s = self._start_timeout_s + self._patience.start_grace_s
        started_at_s, num_silent = loop.time(), 0
        while num_silent < _NUM_INTERVALS:
            before = self._num_signs
            await asyncio.sleep(min(self._patience.silence_s / _NUM_INTERVALS, start_limit_s))
            num_silent = num_silent + 1 if self._num_signs == before else 0
            if is_starting() and loop.time() - started_at_s >= start_limit_s:
                return f"not ready within {self._start_timeout_s:g} s"
        return f"no sign of life for {self._patience.silence_s:g} s"
