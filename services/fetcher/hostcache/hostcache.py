"""The units that this node holds in shared memory, and who may make room for whom.

A unit stays while something uses it: a fetch or a desired worker (pins, in this process) or a
worker's lease (a shared `flock` on a descriptor the worker got from us; the kernel ends it with
the worker). Everything else may be evicted when room is needed, in the order that `eviction.py`
gives. Methods belong to the event loop's thread; only the work of creating and hashing files
leaves it.
"""

import asyncio
import errno
import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from libs.common.errors import UnitFileError
from libs.common.weights.manifest import UnitEntry
from libs.common.weights.sharedpages import SharedPages
from libs.common.weights.unitwriter import UnitWriter, file_size_bytes
from services.fetcher.errors import HostCacheFull, SharedMemoryFull
from services.fetcher.fetching.thread_handover import in_thread
from services.fetcher.hostcache.cached_unit import CachedUnit
from services.fetcher.hostcache.eviction import RefetchCost, in_order_of_eviction
from services.fetcher.hostcache.leases import is_leased, open_lease
from services.fetcher.hostcache.memory_space import MemorySpace, space_of
from services.fetcher.hostcache.unit_scan import rehash
from services.fetcher.hostcache.warm_pages import NAME_PREFIX, WarmPages

logger = logging.getLogger(__name__)


class HostCache:
    """Holds up to `max_bytes`, or what its file system can hold where that is less."""

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        space_of: Callable[[Path], MemorySpace] = space_of,
        refetch_cost: RefetchCost | None = None,
        max_warm_bytes: int = 0,
    ) -> None:
        """`refetch_cost` decides what makes room first; without one the card has no limit.

        `max_warm_bytes` are kept ready for units to come, where there is room for them.
        """
        self._folder, self.max_bytes, self._space_of = folder, max_bytes, space_of
        self._refetch_cost = refetch_cost or RefetchCost.of_card(0)
        self._age = 0.0  # the worth of what was evicted
        self._warm = WarmPages(folder, max_warm_bytes)
        self._units: dict[str, CachedUnit] = {}
        self._pins: dict[str, frozenset[str]] = {}
        self._room = asyncio.Lock()

    @property
    def used_bytes(self) -> int:
        return sum(unit.file_bytes for unit in self._units.values())

    @property
    def capacity_bytes(self) -> int:
        """Now: what others leave on in the file system is not to be promised."""
        free_bytes = self._space_of(self._folder).free_bytes
        return min(self.max_bytes, self.used_bytes + self._warm.used_bytes + free_bytes)

    @property
    def largest_bytes(self) -> int:
        """Once others have left the file system."""
        return min(self.max_bytes, self._space_of(self._folder).size_bytes)

    @property
    def free_bytes(self) -> int:
        """What neither units nor warm pages take."""
        return self.capacity_bytes - self.used_bytes - self._warm.used_bytes

    def warm_filling(self) -> Callable[[], bool]:
        """What makes pages for one more unit; False when there are enough. For a thread of its own.

        It raises OSError when others took the memory.
        """
        return partial(self._warm.fill, self.free_bytes, self._warm.turn)

    @property
    def complete_digests(self) -> tuple[str, ...]:
        return tuple(sorted(u.digest for u in self._units.values() if u.has_all))

    def adopt(self) -> None:
        """Take over the folder as an earlier fetcher left it; remove what is no unit of ours."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        for path in sorted(self._folder.iterdir()):
            unit = CachedUnit.found(path)
            if path.name.startswith(NAME_PREFIX):
                path.unlink()
            elif unit is None:
                logger.warning("removed a foreign file from the host cache: %s", path.name)
                path.unlink()
            else:
                self._units[unit.digest] = unit
        self.expect(unit.file_bytes for unit in self._units.values())

    def expect(self, sizes_bytes: Iterable[int]) -> None:
        """Unit files of these sizes are likely to come: pages for them are worth being kept."""
        self._warm.expect(sizes_bytes)

    def pin(self, owner: str, digests: Iterable[str]) -> None:
        """Keep these units until `unpin(owner)`."""
        self._pins[owner] = frozenset(digests)

    def unpin(self, owner: str) -> None:
        self._pins.pop(owner, None)

    async def make_room(self, units: Iterable[UnitEntry]) -> None:
        """Evict until all of these fit beside what is in use. Raises HostCacheFull.

        Room is not reserved: `open` makes room again for each file it creates.
        """
        missing = (unit for unit in units if unit.digest not in self._units)
        needed = sum(file_size_bytes(unit) for unit in missing)
        async with self._room:
            self._evict_for(needed)

    async def open(self, unit: UnitEntry) -> UnitWriter:
        """The unit's file, new or resumed, with everything in it that counts hashed.

        Raises HostCacheFull. A file that a cancelled caller had begun is finished first: nobody
        else would know of it.
        """
        async with self._room:
            opening = asyncio.create_task(self._opened(unit))
            try:
                return await asyncio.shield(opening)
            except asyncio.CancelledError:
                await asyncio.gather(opening, return_exceptions=True)
                raise

    async def _opened(self, unit: UnitEntry) -> UnitWriter:
        cached = self._present(unit.digest)
        if cached is not None and cached.has_failed:
            cached = self._after_failure(cached)
        if cached is not None and not cached.is_checked:
            cached = await self._recheck(cached, unit)
        if cached is None:
            cached = await self._create(unit)
        if cached.writer is None:
            cached.writer = UnitWriter.reopen(cached.path, unit)
        cached.num_uses += 1
        cached.touch(self._age)
        return cached.writer

    def release(self, digests: Iterable[str]) -> None:
        """No fetch works on these any more: let go of the mappings of complete units.

        A mapping costs a file descriptor, and a large cache holds thousands of units.
        """
        for cached in (self._units[digest] for digest in digests if digest in self._units):
            if cached.writer is not None and cached.writer.is_complete:
                cached.is_complete, cached.writer = True, None

    def lease(self, digest: str) -> int | None:
        """A fresh read-only descriptor that holds a shared lock, or None if there is no file.

        Whoever gets it owns it; the lease ends when its last copy is closed.
        """
        cached = self._present(digest)
        if cached is None or not cached.is_checked:
            return None
        descriptor = open_lease(cached.path)
        cached.touch(self._age)
        return descriptor

    def beat(self) -> None:
        """Show the readers of incomplete units that their writer lives. Any thread may call."""
        writers = [cached.writer for cached in list(self._units.values())]
        for writer in writers:
            if writer is not None and not writer.is_complete:
                writer.beat()

    def _present(self, digest: str) -> CachedUnit | None:
        """The unit, unless somebody removed its file behind our back."""
        cached = self._units.get(digest)
        if cached is not None and not cached.path.exists():
            logger.error("unit %s vanished from shared memory", digest)
            self._drop(cached)
            return None
        return cached

    def _after_failure(self, cached: CachedUnit) -> CachedUnit | None:
        """The unit for another try; None while threads that have not noticed yet may write to it.

        They keep their mapping, and the unit gets a file that they cannot reach.
        """
        assert cached.writer is not None
        if cached.writer.is_written_to:
            self._drop(cached)
            return None
        cached.writer = None
        return cached

    async def _recheck(self, cached: CachedUnit, unit: UnitEntry) -> CachedUnit | None:
        """Hash what an earlier process verified; drop the file if it lies."""
        try:
            writer = UnitWriter.reopen(cached.path, unit)
            await in_thread(partial(rehash, writer))
        except UnitFileError as exc:
            logger.error("dropped a unit from the host cache: %s", exc)
            self._drop(cached)
            return None
        cached.writer, cached.is_checked = writer, True
        return cached

    async def _create(self, unit: UnitEntry) -> CachedUnit:
        path, needed = self._folder / unit.digest, file_size_bytes(unit)
        while True:
            await self._stop_warming(needed)
            self._evict_for(needed)
            try:
                pages = self._warm_pages(needed)
                writer = await in_thread(partial(UnitWriter.create, path, unit, pages))
                break
            except OSError as exc:
                if exc.errno != errno.ENOSPC:
                    raise
                if not self._warm.give_up() and not self._evict_one():  # others took the room
                    raise self._full(needed) from exc
        self.expect([needed])
        cached = CachedUnit(
            digest=unit.digest,
            path=path,
            file_bytes=needed,
            last_used_s=0.0,
            is_complete=False,
            is_checked=True,
            writer=writer,
            num_uses=0,
        )
        self._units[unit.digest] = cached
        return cached

    async def _stop_warming(self, needed_bytes: int) -> None:
        """What is being made counts as room, but cannot be given up before it is made or left."""
        self._warm.stop()
        making_bytes = self._warm.making_bytes
        if making_bytes and self.free_bytes < needed_bytes + making_bytes:
            await asyncio.to_thread(self._warm.wait_stopped)

    def _warm_pages(self, needed_bytes: int) -> SharedPages | None:
        """Pages for a new unit; without fitting ones the others make room where there is none."""
        pages = self._warm.take(needed_bytes)
        while pages is None and self.free_bytes < needed_bytes and self._warm.give_up():
            pass
        return pages

    def _evict_for(self, needed_bytes: int) -> None:
        while self.used_bytes + needed_bytes > self.capacity_bytes:
            if not self._evict_one():
                raise self._full(needed_bytes)

    def _evict_one(self) -> bool:
        pinned = frozenset().union(*self._pins.values())
        units = (unit.candidate(self._refetch_cost) for unit in self._units.values())
        for candidate in in_order_of_eviction(units):
            cached = self._units[candidate.digest]
            if cached.digest not in pinned and not is_leased(cached.path):
                logger.info("evicted a unit", extra={"unit": cached.digest})
                self._age = max(self._age, candidate.worth)
                self._drop(cached)
                return True
        return False

    def _drop(self, cached: CachedUnit) -> None:
        cached.path.unlink(missing_ok=True)
        del self._units[cached.digest]

    def _full(self, needed_bytes: int) -> HostCacheFull:
        used_bytes, held_bytes = self.used_bytes, self._held_bytes()
        if used_bytes + needed_bytes <= self.max_bytes:
            space = self._space_of(self._folder)
            return SharedMemoryFull(
                needed_bytes, space.size_bytes, space.free_bytes, held_bytes, self._folder
            )
        return HostCacheFull(needed_bytes, self.max_bytes, used_bytes, held_bytes)

    def _held_bytes(self) -> int:
        pinned = frozenset().union(*self._pins.values())
        return sum(
            cached.file_bytes
            for cached in self._units.values()
            if cached.digest in pinned or is_leased(cached.path)
        )
