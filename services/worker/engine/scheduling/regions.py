"""Allocates contiguous token slots of the KV cache. Pure bookkeeping, no torch."""

from bisect import bisect_left, insort
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Region:
    """Token slots [start, start + capacity), the same in every layer."""

    start: int
    capacity: int

    @property
    def end(self) -> int:
        return self.start + self.capacity


class RegionAllocator:
    """First fit over a sorted free list; neighbours that are free are always one region."""

    def __init__(self, num_slots: int) -> None:
        assert num_slots > 0
        self.num_slots = num_slots
        self._free = [Region(0, num_slots)]

    @property
    def num_free(self) -> int:
        return sum(region.capacity for region in self._free)

    @property
    def num_used(self) -> int:
        return self.num_slots - self.num_free

    def allocate(self, capacity: int) -> Region | None:
        """A region of exactly this many slots, or None when no free stretch is long enough."""
        assert capacity > 0
        for index, free in enumerate(self._free):
            if free.capacity >= capacity:
                self._cut(index, capacity)
                return Region(free.start, capacity)
        return None

    def extend(self, region: Region, capacity: int) -> Region | None:
        """The region grown in place to `capacity`, or None when what follows it is taken."""
        extra = capacity - region.capacity
        assert extra > 0
        index = bisect_left(self._free, Region(region.end, 0))
        if index == len(self._free):
            return None
        free = self._free[index]
        if free.start != region.end or free.capacity < extra:
            return None
        self._cut(index, extra)
        return Region(region.start, capacity)

    def release(self, region: Region) -> None:
        index = bisect_left(self._free, region)
        before = self._free[index - 1] if index > 0 else None
        after = self._free[index] if index < len(self._free) else None
        assert before is None or before.end <= region.start, "released twice"
        assert after is None or region.end <= after.start, "released twice"
        start, end = region.start, region.end
        if after is not None and after.start == end:
            end = after.end
            self._free.remove(after)
        if before is not None and before.end == start:
            start = before.start
            self._free.remove(before)
        insort(self._free, Region(start, end - start))

    def _cut(self, index: int, capacity: int) -> None:
        """Take the first slots of a free region."""
        free = self._free[index]
        if free.capacity == capacity:
            del self._free[index]
        else:
            self._free[index] = Region(free.start + capacity, free.capacity - capacity)
