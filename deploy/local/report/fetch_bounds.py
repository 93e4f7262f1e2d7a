"""What the network alone makes of a cold start: how long its weights take at the least. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from libs.common.observability.timeline import ActorKind, TimedStep


@dataclass(frozen=True)
class FetchBounds:
    """Of bytes that come over several links at once, each at its full rate from the beginning."""

    num_bytes: int
    rates_bytes_per_s: tuple[int, ...]  # of the nodes that fetched

    @property
    def alone_s(self) -> float:
        """Had the fastest of these nodes fetched everything."""
        return self.num_bytes / max(self.rates_bytes_per_s)

    @property
    def together_s(self) -> float:
        return self.num_bytes / sum(self.rates_bytes_per_s)


def fetch_took_s(steps: Sequence[TimedStep]) -> float:
    """From the first fetch's beginning to the last one's end; 0 without one that has ended."""
    fetches = [s for s in steps if s.kind is ActorKind.FETCHER and not s.is_milestone]
    ends = [step.end_s for step in fetches if step.end_s is not None]
    return max(ends) - min(step.start_s for step in fetches) if ends else 0.0
