"""How often a model is asked: arrivals of a sliding window. Pure."""

from dataclasses import dataclass
from math import floor

WINDOW_S = 10


@dataclass(frozen=True)
class SecondCount:
    second: int
    num_arrivals: int


@dataclass(frozen=True)
class ArrivalWindow:
    """Counted by whole seconds, the oldest first; there are never more than the window has."""

    counts: tuple[SecondCount, ...] = ()

    def add(self, at_s: float, num_arrivals: int = 1) -> "ArrivalWindow":
        """They may be told a little later than they came, and in any order."""
        second = floor(at_s)
        newest = max([second, *(count.second for count in self.counts[-1:])])
        of_second = sum(c.num_arrivals for c in self.counts if c.second == second)
        others = [c for c in self.counts if c.second != second]
        counts = [*others, SecondCount(second, of_second + num_arrivals)]
        kept = [count for count in counts if count.second > newest - WINDOW_S]
        return ArrivalWindow(tuple(sorted(kept, key=lambda count: count.second)))

    def rate_per_s(self, now_s: float) -> float:
        """Of the last whole seconds and the one that runs, over the window: what has just begun
        counts little, for who has come is in the queue or runs."""
        first = floor(now_s) - WINDOW_S
        return sum(c.num_arrivals for c in self.counts if c.second > first) / WINDOW_S

    def is_over(self, now_s: float) -> bool:
        """Nothing of it counts any more."""
        return not self.counts or self.counts[-1].second <= floor(now_s) - WINDOW_S
