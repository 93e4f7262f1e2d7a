"""The node's pool of standby processes: filled while the node is quiet, emptied by launches."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from libs.common.process.prctl import adopt_orphans
from services.worker.agent.standby.orphans import OrphanReaper
from services.worker.agent.standby.standby import Standby
from services.worker.agent.standby.zygote_parent import Zygote
from services.worker.errors import StandbyLost, StandbySilent

logger = logging.getLogger(__name__)

INTERVAL_S = 0.25
NUM_QUIET_INTERVALS = 2  # in a row, before the machine's cores are used for what nobody waits for
MAX_DEFERRALS = 120  # intervals for which requests keep a zygote from being started
# Intervals for which a pool without any waits for a quiet node. The next launch without a standby
# would take far more of the cores than a fork does.
MAX_EMPTY_INTERVALS = 8
FORK_TIMEOUT_S = 60.0  # the first time the zygote imports, on cores that others use
FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
CLOSE_TIMEOUT_S = 5.0


class StandbyPool:
    """Of `size` 0 it is always empty."""

    def __init__(self, size: int, environment: Mapping[str, str]) -> None:
        self._size, self._environment = size, environment
        self._zygote: Zygote | None = None
        self._num_deferrals = 0
        self._ready: dict[Standby, asyncio.Task[None]] = {}  # with what watches each
        self._discards: set[asyncio.Task[None]] = set()
        self._orphans = OrphanReaper()

    @property
    def num_ready(self) -> int:
        return len(self._ready)

    def take(self) -> Standby | None:
        """One that was ready a moment ago, for the caller to bind or to discard."""
        if not self._ready:
            return None
        standby, watching = self._ready.popitem()
        watching.cancel()
        return standby

    def discard(self, standby: Standby) -> None:
        """In the background."""
        task = asyncio.create_task(standby.discard(), name=f"discard-{standby.child.pid}")
        self._discards.add(task)
        task.add_done_callback(self._discards.discard)

    async def keep_full(self, is_quiet: Callable[[], bool], is_serving: Callable[[], bool]) -> None:
        """Until cancelled. Quiet: no worker of the node is starting; serving: one has requests."""
        if self._size == 0:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reap_orphans(), name="reap-orphans")
            group.create_task(self._fill(is_quiet, is_serving), name="fill-standbys")

    async def close(self) -> None:
        """End all that are unbound, and the zygote. Bound ones are not the pool's any more."""
        while (standby := self.take()) is not None:
            self.discard(standby)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await asyncio.gather(*self._discards, self._end_zygote())
        except OSError as exc:  # they have been sent SIGKILL, and get it again when the agent ends
            logger.warning("standby processes may end after the agent: %r", exc)

    async def _reap_orphans(self) -> None:
        """Beside the filling, which waits long for a zygote that is busy or cannot be started."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                self._orphans.look()
            except Exception:
                logger.exception("orphans were not reaped")

    async def _fill(self, is_quiet: Callable[[], bool], is_serving: Callable[[], bool]) -> None:
        num_quiet, num_empty, pause_s = 0, 0, FIRST_PAUSE_S
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                num_quiet = num_quiet + 1 if is_quiet() else 0
                num_empty = num_empty + 1 if not self._ready and self._has_zygote else 0
                is_time = num_quiet >= NUM_QUIET_INTERVALS or num_empty > MAX_EMPTY_INTERVALS
                is_wanted = is_time and self.num_ready < self._size
                if is_wanted and not self._gives_way(is_serving()):
                    await self._add()
                    pause_s = FIRST_PAUSE_S
            except Exception as exc:  # else the node would have no standbys for good
                _log_failure(exc, pause_s)
                if isinstance(exc, StandbySilent):  # else it is good, and was long in the making
                    await self._try_to_end_zygote()
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _gives_way(self, is_serving: bool) -> bool:
        """To requests, and not for ever: a zygote's start takes a core for a second or two, which
        decoding feels, and a fork some milliseconds."""
        if not is_serving or self._has_zygote:
            self._num_deferrals = 0
            return False
        self._num_deferrals += 1
        return self._num_deferrals <= MAX_DEFERRALS

    @property
    def _has_zygote(self) -> bool:
        return self._zygote is not None and self._zygote.is_running

    async def _add(self) -> None:
        if self._zygote is None or not self._zygote.is_running:
            await self._end_zygote()
            adopt_orphans()
            self._zygote = Zygote(self._environment)
            logger.info("the zygote is process %d", self._zygote.pid)
        standby = await Standby.expect(self._zygote.fork(), FORK_TIMEOUT_S)
        watching = asyncio.create_task(self._watch(standby), name=f"standby-{standby.child.pid}")
        self._ready[standby] = watching
        logger.info("standby process %d is ready", standby.child.pid)

    async def _watch(self, standby: Standby) -> None:
        await standby.until_lost()
        logger.warning("standby process %d has ended", standby.child.pid)
        del self._ready[standby]
        await standby.discard()

    async def _try_to_end_zygote(self) -> None:
        try:
            await self._end_zygote()
        except OSError as exc:
            logger.warning("the end of the zygote was not awaited: %s", exc)

    async def _end_zygote(self) -> None:
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            await zygote.end()


def _log_failure(exc: Exception, pause_s: float) -> None:
    bug = None if isinstance(exc, StandbyLost | OSError) else exc
    logger.warning("no standby process: %s; again in %g s", exc, pause_s, exc_info=bug)
