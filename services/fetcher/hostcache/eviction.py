"""Which unit makes room first: the one whose absence costs least per byte that it holds. Pure.

GreedyDual-Size with Frequency (Cherkasova, "Improving WWW Proxies Performance with
Greedy-Dual-Size-Frequency Caching Policy", HP Laboratories 1998, after Cao and Irani's
GreedyDual-Size, USITS 1997): a unit is worth `age + uses * cost / size`, where the cost is the time
to fetch it again and the age is that of the cache when the unit was last used: the worth of what
was evicted last. What is used often stays; what is not used any more is overtaken by the age.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

_REQUEST_S = 0.005  # until a store's first byte
_MAX_OUTDATED = 64  # entries of a queue, beside as many as it has units
_UNLIMITED_BYTES_PER_S = 1_250_000_000  # 10 Gbit, where the card has no limit


@dataclass(frozen=True)
class RefetchCost:
    """How long the network takes to bring a unit again."""

    bytes_per_s: int

    @classmethod
    def of_card(cls, rate_bytes_per_s: int) -> "RefetchCost":
        """0: the card has no limit."""
        return cls(rate_bytes_per_s or _UNLIMITED_BYTES_PER_S)

    def seconds(self, num_bytes: int) -> float:
        return _REQUEST_S + num_bytes / self.bytes_per_s


@dataclass(frozen=True)
class Candidate:
    """A unit that may go. A unit that several models share is used by the starts of each."""

    digest: str
    file_bytes: int  # what its eviction frees
    refetch_s: float  # of what it holds
    num_uses: int
    age: float  # of the cache at its last use
    last_used_s: float  # wall clock; decides between equals, and after a restart

    @property
    def worth(self) -> float:
        return self.age + self.num_uses * self.refetch_s / self.file_bytes


class EvictionQueue:
    """Candidates in the order of eviction; of equal worth the one goes that was used longest ago.

    Putting one in and taking the next out cost O(log n). What a unit is worth grows between two
    puts, while its bytes arrive: that is found when it is taken, and then it goes back.
    """

    def __init__(self, current: Callable[[str], Candidate]) -> None:
        """`current` says what a unit that was put is worth by now."""
        self._current = current
        self._heap: list[tuple[float, float, int, str]] = []  # worth, last use, number, digest
        self._numbers: dict[str, int] = {}  # of each unit's latest entry: others count no more
        self._num_puts = 0

    def put(self, unit: Candidate) -> None:
        """In the place of what it was put as before."""
        self._num_puts += 1
        self._numbers[unit.digest] = self._num_puts
        heapq.heappush(self._heap, (unit.worth, unit.last_used_s, self._num_puts, unit.digest))
        if len(self._heap) > 2 * len(self._numbers) + _MAX_OUTDATED:
            self._heap = [x for x in self._heap if self._numbers.get(x[3]) == x[2]]
            heapq.heapify(self._heap)

    def discard(self, digest: str) -> None:
        self._numbers.pop(digest, None)

    def take(self) -> Candidate | None:
        """The next one, which leaves the queue; None when there is none."""
        while self._heap:
            worth, last_used_s, number, digest = heapq.heappop(self._heap)
            if self._numbers.get(digest) != number:
                continue
            unit = self._current(digest)
            if (unit.worth, unit.last_used_s) <= (worth, last_used_s):
                del self._numbers[digest]
                return unit
            self.put(unit)
        return None
