"""Raw figures as they come, and percentiles of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil
from typing import Any


@dataclass
class Samples:
    """Named series of one cluster size, and single figures. What was not measured is not there."""

    num_nodes: int
    series: dict[str, list[float]] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)  # such as statuses

    def add(self, name: str, values: Iterable[float]) -> None:
        self.series.setdefault(name, []).extend(values)

    def percentile(self, name: str, share: float) -> float | None:
        return percentile(self.series.get(name, ()), share)


def percentile(values: Iterable[float], share: float) -> float | None:
    """The least value that `share` of the values do not exceed (nearest rank); None without any."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else None
