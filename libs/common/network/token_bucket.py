"""A network card as a token bucket that may go into debt. Pure arithmetic, no clock.

Whoever finds the level above zero may move any amount at once and leaves the debt to those who come
after; so a grant never waits for its whole size to build up, and the average still is the rate.
"""

from dataclasses import dataclass, replace
from typing import Final

BURST_S: Final = 0.02  # unused budget is kept this long, unless said otherwise
SHORTEST_WAIT_S: Final = 0.0005


@dataclass(frozen=True)
class TokenBucket:
    """`rate_bytes_per_s` of 0 means no limit. Times are of one monotonic clock."""

    rate_bytes_per_s: int
    level_bytes: float
    filled_at_s: float
    burst_s: float = BURST_S

    def at(self, now_s: float) -> "TokenBucket":
        """With what was earned since; a clock that went back earns nothing."""
        earned = max(0.0, now_s - self.filled_at_s) * self.rate_bytes_per_s
        level = min(self.level_bytes + earned, self.burst_s * self.rate_bytes_per_s)
        return replace(self, level_bytes=level, filled_at_s=now_s)

    def wait_s(self, credit_s: float = 0.0) -> float:
        """How long until something may move; with credit, by so much earlier. 0 means now."""
        if self.rate_bytes_per_s == 0:
            return 0.0
        level = self.level_bytes + credit_s * self.rate_bytes_per_s
        return 0.0 if level > 0 else max(-level / self.rate_bytes_per_s, SHORTEST_WAIT_S)

    def take(self, num_bytes: int) -> "TokenBucket":
        """After `num_bytes` moved; below zero they are given back."""
        if self.rate_bytes_per_s == 0:
            return self
        return replace(self, level_bytes=self.level_bytes - num_bytes)
