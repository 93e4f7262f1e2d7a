"""Hashing again what an earlier fetcher left in shared memory, which counts for nothing before.

A unit that a fetch waits for comes first; a fetch waits for one at a time, so no fetch holds up
another one. All others are hashed one by one in the background, while no fetch waits for a check.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from libs.common.errors import UnitFileError
from libs.common.weights.manifest import UnitEntry
from libs.common.weights.unitwriter import UnitWriter
from services.fetcher.fetching.thread_handover import in_thread
from services.fetcher.hostcache.cached_unit import CachedUnit
from services.fetcher.hostcache.thread_priority import take_lowest_priority
from services.fetcher.hostcache.unit_scan import is_whole, reopen_and_rehash
from services.fetcher.hostcache.unit_table import UnitTable

logger = logging.getLogger(__name__)

MAX_AT_ONCE = 4  # fetches whose units are checked


@dataclass(frozen=True)
class Hashing:
    """Blocking work on unit files."""

    reopen: Callable[[Path, UnitEntry], UnitWriter] = reopen_and_rehash
    is_whole: Callable[[Path], bool] = is_whole


class UnitChecks:
    """A unit is checked once, however many wait for it; whoever stops waiting does not end it."""

    def __init__(self, table: UnitTable, hashing: Hashing) -> None:
        self._table, self._hashing = table, hashing
        self._running: dict[str, asyncio.Task[None]] = {}  # by digest
        self._pool = ThreadPoolExecutor(MAX_AT_ONCE, "checks")
        self._background_pool = ThreadPoolExecutor(
            1, "background-checks", initializer=take_lowest_priority
        )

    async def until_checked(self, unit: UnitEntry) -> None:
        """The unit of an earlier fetcher is checked, or gone because it lied, or about to go."""
        while (cached := self._table.get(unit.digest)) is not None and not cached.is_checked:
            if self._is_due(cached):
                self._begin(cached, self._check(cached, unit))
            if unit.digest not in self._running:
                return
            await asyncio.shield(self._running[unit.digest])

    async def check_others(self) -> None:
        """For ever; there is nothing more to do once all that was found is checked."""
        for cached in self._table.snapshot():
            while self._running:
                await asyncio.wait(set(self._running.values()))
            if cached.is_complete and self._table.has(cached) and self._is_due(cached):
                self._begin(cached, self._check_whole(cached))
        await asyncio.Event().wait()

    def _is_due(self, cached: CachedUnit) -> bool:
        return not (cached.is_checked or cached.is_checking or cached.is_leaving)

    def _begin(self, cached: CachedUnit, work: Coroutine[None, None, None]) -> None:
        cached.is_checking = True
        task = self._running[cached.digest] = asyncio.create_task(work)

        def end(_task: "asyncio.Task[None]") -> None:
            cached.is_checking = False
            del self._running[cached.digest]

        task.add_done_callback(end)

    async def _check(self, cached: CachedUnit, unit: UnitEntry) -> None:
        """By its chunks, also where some are missing; a wrong one may be fetched again."""
        work = partial(self._hashing.reopen, cached.path, unit)
        try:
            cached.writer = await in_thread(work, self._pool)
            cached.is_checked = True
            self._table.revalue(cached)
        except (UnitFileError, OSError) as exc:
            logger.error("dropped a unit from the host cache: %s", exc)
            await in_thread(partial(cached.path.unlink, missing_ok=True), self._pool)
            self._table.forget(cached)

    async def _check_whole(self, cached: CachedUnit) -> None:
        """By its name. One that lies stays for whoever knows its chunks, and tells its readers."""
        work = partial(self._hashing.is_whole, cached.path)
        try:
            cached.is_checked = await in_thread(work, self._background_pool)
        except OSError as exc:  # removed by others
            logger.info("unit %s was not checked: %s", cached.digest, exc)
            return
        if not cached.is_checked:
            logger.error("unit %s in shared memory is damaged", cached.digest)
            cached.is_complete = False
            self._table.revalue(cached)
