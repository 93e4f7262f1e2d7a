"""Making memory for the next fetch while there is none, at the lowest priority."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from services.fetcher.hostcache.hostcache import HostCache
from services.fetcher.hostcache.thread_priority import take_lowest_priority

logger = logging.getLogger(__name__)

_QUIET_S = 5.0  # without a fetch; a worker that just got its weights still starts
_PERIOD_S = 1.0


async def keep_warm(
    cache: HostCache,
    is_idle: Callable[[], bool],
    *,
    quiet_s: float = _QUIET_S,
    period_s: float = _PERIOD_S,
) -> None:
    """For ever: fill up when the node was idle for `quiet_s`, one file after the other."""
    with ThreadPoolExecutor(1, "warming", initializer=take_lowest_priority) as pool:
        idle_s = 0.0
        while True:
            idle_s = idle_s + period_s if is_idle() else 0.0
            if idle_s > quiet_s:
                await _fill(cache, is_idle, pool)
            await asyncio.sleep(period_s)


async def _fill(cache: HostCache, is_idle: Callable[[], bool], pool: ThreadPoolExecutor) -> None:
    loop = asyncio.get_running_loop()
    try:
        while is_idle() and await loop.run_in_executor(pool, cache.warm_filling()):
            pass
    except OSError as exc:  # others took the memory: fetches do without
        logger.info("no pages for the next fetch: %s", exc.strerror)
