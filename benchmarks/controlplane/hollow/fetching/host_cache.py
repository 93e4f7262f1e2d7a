"""A host cache without memory: which units a node would hold, and which of them would go."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from benchmarks.controlplane.hollow.fetching.initial_units import InitialUnits
from benchmarks.controlplane.hollow.fetching.unit_writer import HollowUnitWriter
from libs.common.bus.messages import (
    BucketDigests,
    CachedUnitsListed,
    HostCacheReport,
    ListCachedUnits,
)
from libs.common.weights.manifest import UnitEntry
from libs.common.weights.unit_set_digest import NUM_BUCKETS, UnitSetDigest, bucket_of
from libs.common.weights.unitwriter import UnitWriter, file_size_bytes
from services.fetcher.errors import HostCacheFull
from services.fetcher.hostcache.complete_units import UnitChanges, listed_units


@dataclass
class _Held:
    """A unit that was used since the node's start."""

    file_bytes: int
    writer: UnitWriter | None  # None: complete, and no fetch works on it

    @property
    def is_complete(self) -> bool:
        return self.writer is None or self.writer.is_complete


class HollowUnits:
    """What is told of the units: changes as they happen, all of them when somebody asks."""

    def __init__(self, initial: InitialUnits, digests: Callable[[], Iterable[str]]) -> None:
        self.changes = UnitChanges(digest=initial.set_digest, num_units=initial.num_units)
        self._digests = digests

    def report(self) -> HostCacheReport:
        return self.changes.report()

    def was_told(self, report: HostCacheReport) -> None:
        self.changes.was_told(report)

    def bucket_digests(self, boot_id: str) -> BucketDigests:
        return BucketDigests(
            boot_id=boot_id,
            version=self.changes.version,
            set_digests=tuple(str(UnitSetDigest.of(bucket)) for bucket in self._buckets()),
        )

    def listed(self, boot_id: str, asked: ListCachedUnits) -> CachedUnitsListed:
        return listed_units(boot_id, self.changes.version, asked, self._buckets())

    def _buckets(self) -> list[list[str]]:
        buckets: list[list[str]] = [[] for _ in range(NUM_BUCKETS)]
        for digest in self._digests():
            buckets[bucket_of(digest)].append(digest)
        return buckets


class HollowHostCache:
    """As the real one answers; what was used longest ago makes room first."""

    def __init__(self, max_bytes: int, initial: InitialUnits) -> None:
        self.max_bytes, self._initial = max_bytes, initial
        self._used: OrderedDict[str, _Held] = OrderedDict()  # since the start; the latest are last
        self._pins: dict[str, frozenset[str]] = {}  # by owner
        self._num_pins = Counter[str]()  # by digest
        self._used_bytes = 0
        self._arriving: set[str] = set()  # not known to be complete
        self._units = HollowUnits(initial, self._digests)

    @property
    def used_bytes(self) -> int:
        return self._initial.used_bytes + self._used_bytes

    @property
    def capacity_bytes(self) -> int:
        """Nobody else uses its file system."""
        return self.max_bytes

    @property
    def largest_bytes(self) -> int:
        return self.max_bytes

    @property
    def complete_units(self) -> HollowUnits:
        for digest in [digest for digest in self._arriving if self._used[digest].is_complete]:
            self._arriving.remove(digest)
            self._units.changes.add(digest)
        return self._units

    @property
    def complete_digests(self) -> tuple[str, ...]:
        return tuple(sorted(self._digests()))

    def _digests(self) -> Iterator[str]:
        """Of all that is complete."""
        used = (digest for digest, held in self._used.items() if held.is_complete)
        return chain(self._initial, used)

    def has_complete(self, digest: str) -> bool:
        held = self._used.get(digest)
        return held.is_complete if held is not None else digest in self._initial

    def has_file(self, digest: str) -> bool:
        """Its bytes may still be arriving."""
        return digest in self._used or digest in self._initial

    def pin(self, owner: str, digests: Iterable[str]) -> None:
        """Keep these units until `unpin(owner)`."""
        self.unpin(owner)
        self._pins[owner] = frozenset(digests)
        self._num_pins.update(self._pins[owner])

    def unpin(self, owner: str) -> None:
        for digest in self._pins.pop(owner, frozenset()):
            self._num_pins[digest] -= 1
            if not self._num_pins[digest]:
                del self._num_pins[digest]

    async def make_room(self, units: Iterable[UnitEntry]) -> None:
        """Evict until all of these fit beside what is in use. Raises HostCacheFull."""
        missing = (unit for unit in units if not self.has_file(unit.digest))
        self._evict_for(sum(file_size_bytes(unit) for unit in missing))

    async def open(self, unit: UnitEntry) -> UnitWriter:
        """The unit's file, new or as it is. Raises HostCacheFull."""
        if unit.digest in self._initial:
            self._initial.take(unit.digest, file_size_bytes(unit))
            self._add(unit, is_complete=True)
        elif unit.digest not in self._used:
            self._evict_for(file_size_bytes(unit))
            self._add(unit, is_complete=False)
        held = self._used[unit.digest]
        if held.writer is None:
            held.writer = HollowUnitWriter(unit, is_complete=True)
        self._used.move_to_end(unit.digest)
        return held.writer

    def release(self, digests: Iterable[str]) -> None:
        """No fetch works on these any more."""
        for digest in digests:
            held = self._used.get(digest)
            if held is not None and held.is_complete:
                held.writer = None

    def drop_incomplete(self) -> None:
        """The fetcher was restarted: nobody uses anything, and what was half there goes.

        A real one keeps what is verified of such a unit.
        """
        self._pins.clear()
        self._num_pins.clear()
        for digest in [digest for digest, held in self._used.items() if not held.is_complete]:
            self._evict(digest)
        self.complete_units.changes.forget()

    def _add(self, unit: UnitEntry, *, is_complete: bool) -> None:
        writer = HollowUnitWriter(unit, is_complete=is_complete)
        self._used[unit.digest] = _Held(file_size_bytes(unit), writer)
        self._used_bytes += file_size_bytes(unit)
        if not is_complete:
            self._arriving.add(unit.digest)

    def _evict_for(self, needed_bytes: int) -> None:
        initial, used = self._initial.in_order_of_eviction(), iter(tuple(self._used))
        while self.used_bytes + needed_bytes > self.max_bytes:
            if (
                unit := next((u for u in initial if u.digest not in self._num_pins), None)
            ) is not None:
                self._initial.take(*unit)
                self._units.changes.remove(unit.digest)
            elif (digest := next((d for d in used if d not in self._num_pins), None)) is not None:
                self._evict(digest)
            else:
                raise self._full(needed_bytes)

    def _evict(self, digest: str) -> None:
        if digest in self._arriving:
            self._arriving.remove(digest)
        else:
            self._units.changes.remove(digest)
        self._used_bytes -= self._used.pop(digest).file_bytes

    def _full(self, needed_bytes: int) -> HostCacheFull:
        in_use = (
            held.file_bytes for digest, held in self._used.items() if digest in self._num_pins
        )
        return HostCacheFull(needed_bytes, self.max_bytes, self.used_bytes, sum(in_use))
