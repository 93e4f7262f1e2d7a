"""The complete units of a host cache, as the scheduler is told of them: the latest changes with
each heartbeat, everything only when it asks."""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from libs.common.bus.messages import (
    MAX_LISTED_UNITS,
    BucketDigests,
    CachedUnitsListed,
    HostCacheReport,
    ListCachedUnits,
)
from libs.common.weights.unit_set_digest import NO_UNITS, NUM_BUCKETS, UnitSetDigest, bucket_of

# In one heartbeat, which stays below 16 KB: enough for two large models, one of which makes room
# for the other. What changed before these is found by comparing the whole sets.
MAX_TOLD = 192
TELL_FOR_S = 5.0  # that long each change is repeated, so that a lost heartbeat costs nothing


@dataclass
class _Change:
    version: int
    unit_digest: str
    is_added: bool
    told_at_s: float | None = None  # first


class UnitChanges:
    """How a set of units changes, and what it is together, without the set."""

    def __init__(
        self,
        monotonic_s: Callable[[], float] = time.monotonic,
        digest: UnitSetDigest = NO_UNITS,
        num_units: int = 0,
    ) -> None:
        """`digest` and `num_units` are of the set at first."""
        self._monotonic_s, self._digest, self._num_units = monotonic_s, digest, num_units
        self._changes: deque[_Change] = deque(maxlen=MAX_TOLD)
        self.version = 0

    def __len__(self) -> int:
        return self._num_units

    def add(self, unit_digest: str) -> None:
        """It was not there."""
        self._digest = self._digest.changed(added=[unit_digest])
        self._num_units += 1
        self._note(unit_digest, is_added=True)

    def remove(self, unit_digest: str) -> None:
        """It was there."""
        self._digest = self._digest.changed(removed=[unit_digest])
        self._num_units -= 1
        self._note(unit_digest, is_added=False)

    def forget(self) -> None:
        """What an earlier process left is no news."""
        self._changes.clear()

    def report(self) -> HostCacheReport:
        """For a heartbeat. Costs what has changed lately, whatever the set holds."""
        self._forget_told()
        is_added = {change.unit_digest: change.is_added for change in self._changes}  # in the end
        return HostCacheReport(
            version=self.version,
            since_version=self.version - len(self._changes),
            added=tuple(unit for unit, is_in in is_added.items() if is_in),
            removed=tuple(unit for unit, is_in in is_added.items() if not is_in),
            num_units=self._num_units,
            set_digest=str(self._digest),
        )

    def was_told(self, report: HostCacheReport) -> None:
        """The bus has taken it."""
        now_s = self._monotonic_s()
        for change in self._changes:
            if change.told_at_s is None and change.version <= report.version:
                change.told_at_s = now_s

    def _note(self, unit_digest: str, *, is_added: bool) -> None:
        self.version += 1
        self._changes.append(_Change(self.version, unit_digest, is_added))

    def _forget_told(self) -> None:
        now_s, changes = self._monotonic_s(), self._changes
        while changes and (told_at_s := changes[0].told_at_s) is not None:
            if now_s - told_at_s < TELL_FOR_S:
                break
            changes.popleft()


class CompleteUnits:
    """The set itself. Belongs to the event loop's thread."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.changes = UnitChanges(monotonic_s)
        self._buckets: list[set[str]] = [set() for _ in range(NUM_BUCKETS)]
        self._digests = [NO_UNITS] * NUM_BUCKETS

    def __len__(self) -> int:
        return len(self.changes)

    def __contains__(self, unit_digest: str) -> bool:
        return unit_digest in self._buckets[bucket_of(unit_digest)]

    def __iter__(self) -> Iterator[str]:
        """In order."""
        for bucket in self._buckets:
            yield from sorted(bucket)

    def add(self, unit_digest: str) -> None:
        if unit_digest not in self:
            bucket = bucket_of(unit_digest)
            self._buckets[bucket].add(unit_digest)
            self._digests[bucket] = self._digests[bucket].changed(added=[unit_digest])
            self.changes.add(unit_digest)

    def discard(self, unit_digest: str) -> None:
        if unit_digest in self:
            bucket = bucket_of(unit_digest)
            self._buckets[bucket].remove(unit_digest)
            self._digests[bucket] = self._digests[bucket].changed(removed=[unit_digest])
            self.changes.remove(unit_digest)

    def forget_changes(self) -> None:
        self.changes.forget()

    def report(self) -> HostCacheReport:
        return self.changes.report()

    def was_told(self, report: HostCacheReport) -> None:
        self.changes.was_told(report)

    def bucket_digests(self, boot_id: str) -> BucketDigests:
        return BucketDigests(
            boot_id=boot_id,
            version=self.changes.version,
            set_digests=tuple(map(str, self._digests)),
        )

    def listed(self, boot_id: str, asked: ListCachedUnits) -> CachedUnitsListed:
        """Units of the buckets asked for, in order, from behind `after` on."""
        return listed_units(boot_id, self.changes.version, asked, self._buckets)


def listed_units(
    boot_id: str, version: int, asked: ListCachedUnits, buckets: Sequence[Collection[str]]
) -> CachedUnitsListed:
    """`buckets` are the whole set."""
    after, found = asked.after or "", list[str]()
    first = bucket_of(after) if after else 0
    for bucket in sorted({bucket for bucket in asked.buckets if bucket >= first}):
        found += sorted(unit for unit in buckets[bucket] if unit > after)
        if len(found) > MAX_LISTED_UNITS:
            break
    return CachedUnitsListed(
        boot_id=boot_id,
        version=version,
        units=tuple(found[:MAX_LISTED_UNITS]),
        is_last=len(found) <= MAX_LISTED_UNITS,
    )
