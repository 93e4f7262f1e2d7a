"""A child that is started again when it dies or hangs, with a growing pause, unless it is held."""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable

from deploy.local.errors import LocalStackError, StartFailed
from deploy.local.processes.hang_detector import HangDetector
from deploy.local.processes.process import ChildProcess, ProcessSpec
from deploy.local.processes.readiness import Probe, wait_until_ready

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
_STEADY_AFTER_S = 30.0  # a child that ran this long is no longer a failing one
_POLL_PERIOD_S = 0.02


class SupervisedProcess:
    """`before_start` runs ahead of each start, to clear what tells readiness.

    Without a `hang_detector` only its end counts: another project's server may be busy recovering.
    """

    def __init__(
        self,
        spec: ProcessSpec,
        probe: Probe,
        *,
        ready_timeout_s: float,
        before_start: Callable[[], Awaitable[None]] | None = None,
        hang_detector: HangDetector | None = None,
    ) -> None:
        self.spec = spec
        self.num_starts = 0
        self._probe = probe
        self._ready_timeout_s = ready_timeout_s
        self._before_start = before_start
        self._hang_detector = hang_detector
        self._child: ChildProcess | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_wanted = asyncio.Event()
        self._was_killed = False

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self.is_running else None

    @property
    def is_running(self) -> bool:
        """A killed child is gone from the moment of the signal, not only when it has ended."""
        if self._child is None or self._was_killed:
            return False
        return not self._child.has_exited()

    async def start(self) -> None:
        """Starts it, waits until it is ready, keeps it running. Raises StartFailed.

        One that is kept already is wanted again, if it was held, and waited for.
        """
        self._is_wanted.set()
        if self._keeper is None or self._child is None:
            child = await self._launch()
            await wait_until_ready(child, self._probe, self._ready_timeout_s)
            self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.spec.name}")
        else:
            await self.wait_ready()

    async def wait_ready(self) -> None:
        """Waits over restarts. Raises StartFailed when no child gets ready in time."""
        deadline = time.monotonic() + self._ready_timeout_s
        while not (self.is_running and await self._probe()):
            if time.monotonic() > deadline:
                reason = f"was not ready within {self._ready_timeout_s:g} s"
                raise StartFailed(self.spec.name, reason, self.log_tail())
            await asyncio.sleep(_POLL_PERIOD_S)

    def hold(self) -> None:
        """When it ends it stays down, until `start`."""
        self._is_wanted.clear()

    def send_signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.send_signal(number)
            self._was_killed = self._was_killed or number is signal.SIGKILL

    async def stop(self) -> None:
        """Ends it for good: asks, waits its deadline, kills. Repeatable."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            self._keeper = None
        if self._child is not None:
            code = await self._child.stop()
            logger.debug("%s stopped with %s", self.spec.name, describe_exit(code))

    def kill_now(self) -> None:
        """The last resort on the way out: no deadline, no event loop."""
        if self._child is not None:
            self._child.kill_now()

    def log_tail(self) -> str:
        return self._child.log_tail() if self._child is not None else ""

    async def _launch(self) -> ChildProcess:
        if self._before_start is not None:
            await self._before_start()
        self._child, self._was_killed = ChildProcess(self.spec), False
        self.num_starts += 1
        return self._child

    async def _keep(self) -> None:
        assert self._child is not None
        pause_s, started_s = _FIRST_PAUSE_S, time.monotonic()
        while True:
            code = await self._ended(self._child)
            logger.warning("%s ended with %s", self.spec.name, describe_exit(code))
            was_held = not self._is_wanted.is_set()
            if was_held or time.monotonic() - started_s > _STEADY_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            await asyncio.sleep(0 if was_held else pause_s)
            await self._is_wanted.wait()
            pause_s, started_s = min(2 * pause_s, _LONGEST_PAUSE_S), time.monotonic()
            try:
                await self._launch()
            except (OSError, LocalStackError):  # the ended child counts once more
                logger.exception("%s could not be started", self.spec.name)

    async def _ended(self, child: ChildProcess) -> int:
        """Its exit code, once it has one; a child that hangs is killed."""
        watching = asyncio.create_task(self._end_when_hung(), name=f"watch {self.spec.name}")
        try:
            return await child.wait()
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _end_when_hung(self) -> None:
        if self._hang_detector is not None:
            await self._hang_detector.until_hung()
            logger.warning("%s hangs and is killed", self.spec.name)
            self.send_signal(signal.SIGKILL)


def describe_exit(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
