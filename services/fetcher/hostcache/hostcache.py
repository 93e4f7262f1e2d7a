"""The units that this node holds in shared memory, and who may make room for whom.

A unit stays while something uses it: a fetch or a desired worker (pins, in this process) or a
worker's lease (a shared `flock` on a descriptor the worker got from us; the kernel ends it with
the worker). Everything else may be evicted when room is needed, in the order that `eviction.py`
gives. Methods belong to the event loop's thread; the work of creating, hashing and removing files
leaves it.
"""

import asyncio
import errno
import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from libs.common.cancellation import finished
from libs.common.errors import UnitFileError
from libs.common.weights.manifest import UnitEntry
from libs.common.weights.sharedpages import SharedPages
from libs.common.weights.unitwriter import UnitWriter, file_size_bytes
from services.fetcher.errors import HostCacheFull, SharedMemoryFull
from services.fetcher.fetching.thread_handover import in_thread
from services.fetcher.hostcache.cached_unit import CachedUnit
from services.fetcher.hostcache.complete_units import CompleteUnits
from services.fetcher.hostcache.eviction import RefetchCost
from services.fetcher.hostcache.evictor import Evictor, Remove
from services.fetcher.hostcache.leases import open_lease, remove_unless_leased
from services.fetcher.hostcache.memory_space import MemorySpace, space_of
from services.fetcher.hostcache.unit_checks import Hashing, UnitChecks
from services.fetcher.hostcache.unit_table import UnitTable
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
        hashing: Hashing | None = None,
        remove: Remove = remove_unless_leased,
    ) -> None:
        """`refetch_cost` decides what makes room first; without one the card has no limit.

        `max_warm_bytes` are kept ready for units to come, where there is room for them. `hashing`
        and `remove` are what is done in threads.
        """
        self._folder, self.max_bytes, self._space_of = folder, max_bytes, space_of
        self._warm = WarmPages(folder, max_warm_bytes)
        self._units = UnitTable(refetch_cost or RefetchCost.of_card(0))
        self._evictor = Evictor(self._units, remove)
        self._checks = UnitChecks(self._units, hashing or Hashing())
        self._room = asyncio.Lock()

    @property
    def used_bytes(self) -> int:
        return self._units.used_bytes

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
    def complete_units(self) -> CompleteUnits:
        return self._units.complete

    @property
    def complete_digests(self) -> tuple[str, ...]:
        return tuple(self.complete_units)

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
                self._units.add(unit)
        self.complete_units.forget_changes()
        self.expect(unit.file_bytes for unit in self._units)

    async def check_found(self) -> None:
        """For ever: hashes what `adopt` has found, in the background."""
        await self._checks.check_others()

    def expect(self, sizes_bytes: Iterable[int]) -> None:
        """Unit files of these sizes are likely to come: pages for them are worth being kept."""
        self._warm.expect(sizes_bytes)

    def pin(self, owner: str, digests: Iterable[str]) -> None:
        """Keep these units until `unpin(owner)`."""
        self._units.pin(owner, digests)

    def unpin(self, owner: str) -> None:
        self._units.unpin(owner)

    @property
    def pin_owners(self) -> frozenset[str]:
        return self._units.pin_owners

    async def make_room(self, units: Iterable[UnitEntry]) -> None:
        """Evict until all of these fit beside what is in use. Raises HostCacheFull.

        Room is not reserved: `open` makes room again for each file it creates.
        """
        missing = (unit for unit in units if unit.digest not in self._units)
        needed = sum(file_size_bytes(unit) for unit in missing)
        async with self._room:
            await finished(self._evict_for(needed))

    async def open(self, unit: UnitEntry) -> UnitWriter:
        """The unit's file, new or resumed, with everything in it that counts hashed.

        Raises HostCacheFull. A file that a cancelled caller had begun is finished first: nobody
        else would know of it.
        """
        while True:
            await self._checks.until_checked(unit)
            async with self._room:
                cached = self._units.get(unit.digest)
                if cached is None or cached.is_checked:  # else it was to go, but is leased
                    return await finished(self._opened(unit))

    async def _opened(self, unit: UnitEntry) -> UnitWriter:
        cached = self._present(unit.digest)
        if cached is not None and cached.has_failed:
            cached = await self._after_failure(cached)
        if cached is not None and cached.writer is None:
            cached = await self._reopened(cached, unit)
        if cached is None:
            cached = await self._create(unit)
        assert cached.writer is not None
        cached.num_uses += 1
        self._units.touch(cached)
        return cached.writer

    def release(self, digests: Iterable[str]) -> None:
        """No fetch works on these any more: let go of the mappings of complete units.

        A mapping costs a file descriptor, and a large cache holds thousands of units.
        """
        for cached in filter(None, map(self._units.get, digests)):
            if cached.writer is not None and cached.writer.is_complete:
                cached.is_complete, cached.writer = True, None
                self._units.revalue(cached)

    def lease(self, digest: str) -> int | None:
        """A fresh read-only descriptor that holds a shared lock, or None if there is no file.

        Whoever gets it owns it; the lease ends when its last copy is closed.
        """
        cached = self._present(digest)
        if cached is None or not cached.is_checked:
            return None
        descriptor = open_lease(cached.path)
        self._units.touch(cached)
        return descriptor

    def beat(self) -> None:
        """Show the readers of incomplete units that their writer lives. Any thread may call."""
        writers = [cached.writer for cached in self._units.snapshot()]
        for writer in writers:
            if writer is not None and not writer.is_complete:
                writer.beat()

    def _present(self, digest: str) -> CachedUnit | None:
        """The unit, unless it is about to go or somebody removed its file behind our back."""
        cached = self._units.get(digest)
        if cached is None or cached.is_leaving:
            return None
        if not cached.is_checking and not cached.path.exists():
            logger.error("unit %s vanished from shared memory", digest)
            self._units.forget(cached)
            return None
        return cached

    async def _after_failure(self, cached: CachedUnit) -> CachedUnit | None:
        """The unit for another try; None while threads that have not noticed yet may write to it.

        They keep their mapping, and the unit gets a file that they cannot reach.
        """
        assert cached.writer is not None
        if cached.writer.is_written_to:
            await self._drop(cached)
            return None
        cached.writer = None
        return cached

    async def _reopened(self, cached: CachedUnit, unit: UnitEntry) -> CachedUnit | None:
        """With a writer again; None, and the file is gone, where it is not this unit's."""
        try:
            cached.writer = UnitWriter.reopen(cached.path, unit)
        except UnitFileError as exc:
            logger.error("dropped a unit from the host cache: %s", exc)
            await self._drop(cached)
            return None
        return cached

    async def _create(self, unit: UnitEntry) -> CachedUnit:
        path, needed = self._folder / unit.digest, file_size_bytes(unit)
        while True:
            await self._stop_warming(needed)
            await self._evict_for(needed)
            try:
                pages = await in_thread(partial(self._warm_pages, needed))
                writer = await in_thread(partial(UnitWriter.create, path, unit, pages))
                break
            except OSError as exc:
                if exc.errno != errno.ENOSPC:
                    raise
                has_given_up = await in_thread(self._warm.give_up)
                if not has_given_up and not await self._evictor.evict(1):
                    raise await self._full(needed) from exc  # others took the room
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
        self._units.add(cached)
        return cached

    async def _stop_warming(self, needed_bytes: int) -> None:
        """What is being made counts as room, but cannot be given up before it is made or left."""
        self._warm.stop()
        making_bytes = self._warm.making_bytes
        if making_bytes and self.free_bytes < needed_bytes + making_bytes:
            await asyncio.to_thread(self._warm.wait_stopped)

    def _warm_pages(self, needed_bytes: int) -> SharedPages | None:
        """Pages for a new unit; without fitting ones the others make room where there is none.

        Blocking.
        """
        pages = self._warm.take(needed_bytes)
        while pages is None and self.free_bytes < needed_bytes and self._warm.give_up():
            pass
        return pages

    async def _evict_for(self, needed_bytes: int) -> None:
        while (excess_bytes := self.used_bytes + needed_bytes - self.capacity_bytes) > 0:
            if not await self._evictor.evict(excess_bytes):
                raise await self._full(needed_bytes)

    async def _drop(self, cached: CachedUnit) -> None:
        await in_thread(partial(cached.path.unlink, missing_ok=True))
        self._units.forget(cached)

    async def _full(self, needed_bytes: int) -> HostCacheFull:
        used_bytes, held_bytes = self.used_bytes, await self._evictor.held_bytes()
        if used_bytes + needed_bytes <= self.max_bytes:
            space = self._space_of(self._folder)
            return SharedMemoryFull(
                needed_bytes, space.size_bytes, space.free_bytes, held_bytes, self._folder
            )
        return HostCacheFull(needed_bytes, self.max_bytes, used_bytes, held_bytes)
