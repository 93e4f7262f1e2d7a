"""The units of a host cache in this process's memory: which there are, which are pinned, which go
first. No I/O but for the time of a file's last use."""

from collections import Counter
from collections.abc import Iterable, Iterator

from services.fetcher.hostcache.cached_unit import CachedUnit
from services.fetcher.hostcache.complete_units import CompleteUnits
from services.fetcher.hostcache.eviction import Candidate, EvictionQueue, RefetchCost


class UnitTable:
    """Belongs to the event loop's thread; `snapshot` may be called by any."""

    def __init__(self, cost: RefetchCost) -> None:
        self._cost = cost
        self._units: dict[str, CachedUnit] = {}
        self._pins: dict[str, frozenset[str]] = {}  # by owner
        self._num_pins = Counter[str]()  # by digest
        self._queue = EvictionQueue(lambda digest: self._units[digest].candidate(cost))
        self._age = 0.0  # the worth of what was evicted
        self._arriving: dict[str, CachedUnit] = {}  # threads write to them, until they are complete
        self._complete = CompleteUnits()
        self.used_bytes = 0

    def __iter__(self) -> Iterator[CachedUnit]:
        return iter(self._units.values())

    def __contains__(self, digest: str) -> bool:
        return digest in self._units

    def get(self, digest: str) -> CachedUnit | None:
        return self._units.get(digest)

    def has(self, cached: CachedUnit) -> bool:
        """This very file, and no later one of the same unit."""
        return self._units.get(cached.digest) is cached

    def snapshot(self) -> list[CachedUnit]:
        return list(self._units.values())

    def add(self, cached: CachedUnit) -> None:
        self._units[cached.digest] = cached
        self.used_bytes += cached.file_bytes
        self.revalue(cached)

    def forget(self, cached: CachedUnit) -> None:
        if self.has(cached):
            del self._units[cached.digest]
            self.used_bytes -= cached.file_bytes
            self._queue.discard(cached.digest)
            self._arriving.pop(cached.digest, None)
            self._complete.discard(cached.digest)

    def touch(self, cached: CachedUnit) -> None:
        """It is used now."""
        cached.touch(self._age)
        self.revalue(cached)

    def revalue(self, cached: CachedUnit) -> None:
        """It holds other bytes, or was used."""
        self._queue.put(cached.candidate(self._cost))
        if self.has(cached):
            self._note_completeness(cached)

    @property
    def complete(self) -> CompleteUnits:
        """As of now: what is arriving is looked at, nothing else."""
        for cached in [cached for cached in self._arriving.values() if cached.has_all]:
            self._note_completeness(cached)
        return self._complete

    def _note_completeness(self, cached: CachedUnit) -> None:
        if cached.has_all:
            self._arriving.pop(cached.digest, None)
            self._complete.add(cached.digest)
            return
        self._complete.discard(cached.digest)
        if cached.writer is not None:
            self._arriving[cached.digest] = cached

    def pin(self, owner: str, digests: Iterable[str]) -> None:
        self.unpin(owner)
        self._pins[owner] = frozenset(digests)
        self._num_pins.update(self._pins[owner])

    def unpin(self, owner: str) -> None:
        for digest in self._pins.pop(owner, frozenset()):
            self._num_pins[digest] -= 1
            if not self._num_pins[digest]:
                del self._num_pins[digest]

    @property
    def pin_owners(self) -> frozenset[str]:
        return frozenset(self._pins)

    def is_in_use(self, digest: str) -> bool:
        """By this process; a worker's lease is another matter."""
        return digest in self._num_pins or self._units[digest].is_checking

    def take_candidate(self) -> Candidate | None:
        """The next to go, pinned or not; `put_back`, or forget its unit."""
        return self._queue.take()

    def put_back(self, candidate: Candidate) -> None:
        if candidate.digest in self._units:
            self._queue.put(candidate)

    def was_evicted(self, candidate: Candidate) -> None:
        self._age = max(self._age, candidate.worth)
        cached = self._units.get(candidate.digest)
        if cached is not None:
            self.forget(cached)
