"""Notices a worker process that hangs: not ready in time, silent, or with an engine that stands."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from libs.common.causes import Cause, CauseKind
from services.worker.frames.frames import StatsChanged, StepTaken, ToAgent, TokensProduced

_NUM_INTERVALS = 10


@dataclass(frozen=True)
class WatchdogLimits:
    """How long an agent waits for a worker process that should have said something."""

    start_grace_s: float = 2.0  # beyond the start's own limit: the runtime knows the better cause
    silence_s: float = 15.0  # a process that runs says something each second
    # While a library is loaded no thread of the process runs: minutes from a cold disk.
    import_silence_s: float = 120.0
    # A ready worker's engine notes progress each second, in a long step after each layer.
    engine_s: float = 30.0
    # An agent that ends waits so long for its workers. One that the kernel holds in a call does not
    # end by its signals either, but will when that call returns.
    end_s: float = 8.0


WATCHDOG_LIMITS = WatchdogLimits()


class Watchdog:
    """Silence is counted in intervals, so that an agent that was frozen itself blames nobody."""

    def __init__(self, limits: WatchdogLimits, start_timeout_s: float) -> None:
        self._limits, self._start_timeout_s = limits, start_timeout_s
        self._start_limit_s = start_timeout_s + limits.start_grace_s
        shortest_s = min(limits.silence_s, limits.engine_s)
        self._interval_s = min(shortest_s / _NUM_INTERVALS, self._start_limit_s)
        self._num_frames = 0
        self._num_outputs = 0
        self._progress = 0
        self._is_importing = False

    def note(self, frame: ToAgent) -> None:
        """Any frame is a sign of life; of the engine's only what its own thread has done."""
        self._num_frames += 1
        if isinstance(frame, StatsChanged):
            self._progress = frame.progress
        elif isinstance(frame, TokensProduced):
            self._num_outputs += 1
        elif isinstance(frame, StepTaken) and frame.name == "import":
            self._is_importing = frame.ended_at_s is None

    async def trouble(self, is_starting: Callable[[], bool]) -> Cause:
        """Returns when something is wrong, and says what."""
        loop = asyncio.get_running_loop()
        started_at_s = loop.time()
        limits, process, engine = self._limits, _UnchangedCount(), _UnchangedCount()
        while True:
            await asyncio.sleep(self._interval_s)
            silence_s = limits.import_silence_s if self._is_importing else limits.silence_s
            if process.after(self._num_frames) >= self._limit(silence_s):
                return Cause.of(CauseKind.PROCESS_HUNG, seconds=silence_s)
            if is_starting():  # it imports, builds and loads: only the start's own limit counts
                engine = _UnchangedCount()
                if loop.time() - started_at_s >= self._start_limit_s:
                    return Cause.of(CauseKind.START_TIMED_OUT, seconds=self._start_timeout_s)
            elif engine.after((self._progress, self._num_outputs)) >= self._limit(limits.engine_s):
                return Cause.of(CauseKind.ENGINE_HUNG, seconds=limits.engine_s)

    def _limit(self, stall_s: float) -> int:
        """In intervals."""
        return math.ceil(stall_s / self._interval_s)


class _UnchangedCount:
    """How many intervals in a row something has stayed the same."""

    def __init__(self) -> None:
        self._num_same, self._last = 0, object()

    def after(self, value: object) -> int:
        self._num_same = self._num_same + 1 if value == self._last else 0
        self._last = value
        return self._num_same
