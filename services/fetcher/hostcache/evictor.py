"""Makes room in a host cache. What goes is chosen on the event loop; a thread looks for leases and
removes the files, for freeing gigabytes takes as long as a unit's arrival."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from services.fetcher.fetching.thread_handover import in_thread
from services.fetcher.hostcache.cached_unit import CachedUnit
from services.fetcher.hostcache.eviction import Candidate
from services.fetcher.hostcache.leases import is_leased, remove_unless_leased
from services.fetcher.hostcache.unit_table import UnitTable

logger = logging.getLogger(__name__)

Remove = Callable[[Path], bool]  # unless it is leased; whether it is gone. Blocking


class Evictor:
    """One call of `evict` at a time."""

    def __init__(self, table: UnitTable, remove: Remove = remove_unless_leased) -> None:
        self._table, self._remove = table, remove

    async def evict(self, needed_bytes: int) -> int:
        """Bytes that became free: at least `needed_bytes`, or all that nobody uses."""
        kept: list[Candidate] = []
        freed_bytes = 0
        try:
            while freed_bytes < needed_bytes:
                victims = self._choose(needed_bytes - freed_bytes, kept)
                if not victims:
                    break
                freed_bytes += await self._evict(victims, kept)
        finally:
            for candidate in kept:
                self._table.put_back(candidate)
        return freed_bytes

    async def held_bytes(self) -> int:
        """Of units that cannot go now."""
        units = self._table.snapshot()
        in_use = frozenset(u.digest for u in units if self._table.is_in_use(u.digest))
        return await in_thread(partial(_held_bytes, units, in_use))

    def _choose(self, needed_bytes: int, kept: list[Candidate]) -> list[Candidate]:
        """In the order of eviction, enough if nobody has leased them; pinned ones are kept."""
        victims: list[Candidate] = []
        while needed_bytes > 0 and (candidate := self._table.take_candidate()) is not None:
            if self._table.is_in_use(candidate.digest):
                kept.append(candidate)
            else:
                victims.append(candidate)
                needed_bytes -= candidate.file_bytes
        return victims

    async def _evict(self, victims: Sequence[Candidate], kept: list[Candidate]) -> int:
        units = [cached for x in victims if (cached := self._table.get(x.digest)) is not None]
        for cached in units:
            cached.is_leaving = True
        gone = set[str]()
        try:
            gone = await in_thread(partial(_remove_all, units, self._remove))
        finally:
            for cached in units:
                cached.is_leaving = cached.digest in gone
            kept += [candidate for candidate in victims if candidate.digest not in gone]
        evicted = [candidate for candidate in victims if candidate.digest in gone]
        for candidate in evicted:
            logger.info("evicted a unit", extra={"unit": candidate.digest})
            self._table.was_evicted(candidate)
        return sum(candidate.file_bytes for candidate in evicted)


def _remove_all(units: Sequence[CachedUnit], remove: Remove) -> set[str]:
    """Digests of those that are gone, and with them this process's mappings."""
    gone = set()
    for cached in units:
        if remove(cached.path):
            cached.writer = None
            gone.add(cached.digest)
    return gone


def _held_bytes(units: Iterable[CachedUnit], in_use: frozenset[str]) -> int:
    held = (unit for unit in units if unit.digest in in_use or is_leased(unit.path))
    return sum(unit.file_bytes for unit in held)
