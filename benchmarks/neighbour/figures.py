"""What the samples say: percentiles of both kinds of windows, their ratios, and how sure they are.

The intervals are 95 % intervals of the bootstrap over windows of time of one second: samples that
lie close together are not independent.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from benchmarks.neighbour.windows import Kind, Measured

SEED = 11
_NUM_DRAWS = 1000
_BLOCK_S = 1.0
Block = Sequence[float]  # the samples of one second


@dataclass(frozen=True)
class Metric:
    name: str
    sample_kind: str
    share: float  # of the percentile


GAP_P99 = Metric("gap_p99", "stream_gap", 0.99)
TTFT_P95 = Metric("ttft_p95", "probe_first", 0.95)
METRICS = (GAP_P99, TTFT_P95)


@dataclass(frozen=True)
class Interval:
    value: float
    low: float
    high: float


def percentile(values: Iterable[float], share: float) -> float:
    """The least value that `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def blocks(measured: Measured, kind: Kind, sample_kind: str) -> list[Block]:
    """By seconds; a gap belongs to the second in which it ended."""
    found: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
    for number, window in enumerate(measured.windows):
        if window.kind is kind:
            for sample in measured.samples:
                if sample["kind"] == sample_kind and window.began_s <= sample["at_s"]:
                    if sample["at_s"] < window.ended_s:
                        second = int((sample["at_s"] - window.began_s) / _BLOCK_S)
                        found[number, second].append(sample["value"])
    return list(found.values())


def level(measured: Measured, kind: Kind, metric: Metric) -> Interval:
    """The percentile in windows of that kind."""
    own = blocks(measured, kind, metric.sample_kind)
    return _interval(lambda draw: percentile(_flat(draw(own)), metric.share))


def ratio(measured: Measured, kind: Kind, metric: Metric) -> Interval:
    """Of the percentile there to the undisturbed one."""
    own = blocks(measured, kind, metric.sample_kind)
    calm = blocks(measured, Kind.UNDISTURBED, metric.sample_kind)
    return _interval(
        lambda draw: (
            percentile(_flat(draw(own)), metric.share) / percentile(_flat(draw(calm)), metric.share)
        )
    )


def failures(measured: Measured) -> list[Any]:
    """Statuses of the measured tenant's requests that were refused or cut."""
    return [x["value"] for x in measured.samples if x["kind"].endswith("_failed")]


_Draw = Callable[[Sequence[Block]], Sequence[Block]]


def _interval(figure: Callable[[_Draw], float]) -> Interval:
    random_ = random.Random(SEED)
    drawn = sorted(
        figure(lambda items: random_.choices(items, k=len(items))) for _ in range(_NUM_DRAWS)
    )
    return Interval(figure(lambda items: items), percentile(drawn, 0.025), percentile(drawn, 0.975))


def _flat(found: Sequence[Block]) -> list[float]:
    return [value for block in found for value in block]
