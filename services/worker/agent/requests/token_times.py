"""How many tokens a request had at a moment, to a quarter of a second. Pure."""

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field

INTERVAL_S = 0.25  # between two moments that are kept: some 2,400 of the longest request


@dataclass
class TokenTimes:
    """Times are monotonic seconds."""

    _at_s: "array[float]" = field(default_factory=lambda: array("d"))
    _num_before: "array[int]" = field(default_factory=lambda: array("I"))

    def note(self, num_before: int, now_s: float) -> None:
        """More tokens come now, to the `num_before` that there are."""
        if not self._at_s or now_s - self._at_s[-1] >= INTERVAL_S:
            self._at_s.append(now_s)
            self._num_before.append(num_before)

    def num_at(self, moment_s: float, num_now: int) -> int:
        """At least as many as there were then, and at most those of an INTERVAL_S later."""
        position = bisect_right(self._at_s, moment_s)
        return self._num_before[position] if position < len(self._num_before) else num_now
