"""Which unit makes room first: the one whose absence costs least per byte that it holds. Pure.

GreedyDual-Size with Frequency (Cherkasova, "Improving WWW Proxies Performance with
Greedy-Dual-Size-Frequency Caching Policy", HP Laboratories 1998, after Cao and Irani's
GreedyDual-Size, USITS 1997): a unit is worth `age + uses * cost / size`, where the cost is the time
to fetch it again and the age is that of the cache when the unit was last used: the worth of what
was evicted last. What is used often stays; what is not used any more is overtaken by the age.
"""

from collections.abc import Iterable
from dataclasses import dataclass

_REQUEST_S = 0.005  # until a store's first byte
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


def in_order_of_eviction(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Equals in all keep their order."""
    return sorted(candidates, key=lambda unit: (unit.worth, unit.last_used_s))
