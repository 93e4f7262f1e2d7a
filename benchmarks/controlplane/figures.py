"""The figures that are looked at, how each follows from the samples, and its bound."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.controlplane.samples import Samples, percentile

SEED = 23
_NUM_DRAWS = 500
Reduce = Callable[[Sequence[float]], float | None]

median: Reduce = partial(percentile, share=0.5)
p99: Reduce = partial(percentile, share=0.99)
worst: Reduce = partial(percentile, share=1.0)


@dataclass(frozen=True)
class Figure:
    """`bound`: what it may be at the largest cluster, where the figure has one."""

    title: str
    unit: str
    series: str  # name of the samples, or of a single figure
    reduce: Reduce
    bound: float | None = None

    def of(self, samples: Samples) -> float | None:
        """None where it was not measured."""
        if self.series in samples.figures:
            return samples.figures[self.series]
        return self.reduce(samples.series.get(self.series, ()))

    def interval(self, samples: Samples) -> tuple[float, float] | None:
        """The 95 % interval of the bootstrap; None for a single figure, and for few samples."""
        values = samples.series.get(self.series, ())
        if len(values) < 5 or self.reduce is worst:
            return None
        draw = random.Random(SEED)
        drawn = [self.reduce(draw.choices(values, k=len(values))) for _ in range(_NUM_DRAWS)]
        ends = (percentile((x for x in drawn if x is not None), share) for share in (0.025, 0.975))
        low, high = ends
        return None if low is None or high is None else (low, high)


PLANNER = Figure("planner, one node changed, p99", "ms", "planner_ms", p99, 2.0)
PLANNER_AFTER_STARTS = Figure(
    "planner, behind another start, p99", "ms", "planner_after_starts_ms", p99, 2.0
)
LEADER = Figure("leader, idle cluster", "cores", "leader_cores_idle", median, 0.3)
HEARTBEAT = Figure("fetcher's heartbeat, median", "bytes", "heartbeat_fetcher_bytes", median, 4096)
AGENT_HEARTBEAT = Figure("agent's heartbeat, median", "bytes", "heartbeat_agent_bytes", median)
SUBMIT_P50 = Figure("submission → sent, p50, 10/s", "ms", "cold_submit_burst_ms", median, 30.0)
SUBMIT_P99 = Figure("submission → sent, p99, 10/s", "ms", "cold_submit_burst_ms", p99, 250.0)
STEADY_P50 = Figure("submission → sent, p50, 2.8/s", "ms", "cold_submit_steady_ms", median)
STEADY_P99 = Figure("submission → sent, p99, 2.8/s", "ms", "cold_submit_steady_ms", p99)
GATEWAY_START = Figure("gateway's start, median", "s", "gateway_start_s", median, 5.0)
GATEWAY_MB = Figure("gateway's memory, most", "MB", "gateway_mb", worst, 400.0)
REGISTRATION = Figure(
    "registered, known to the other, worst", "s", "registration_known_s", worst, 1.0
)
TAKEOVER = Figure("takeover of the leader, worst", "s", "takeover_s", worst, 5.0)
PICTURED = (
    PLANNER,
    LEADER,
    HEARTBEAT,
    SUBMIT_P50,
    SUBMIT_P99,
    GATEWAY_START,
    GATEWAY_MB,
    REGISTRATION,
    TAKEOVER,
)
