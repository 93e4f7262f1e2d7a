"""What raw samples say: gaps between tokens, pauses, ratios of pairs. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from statistics import median

from benchmarks.consolidation.record import SwitchRecord
from benchmarks.consolidation.samples import Arrival, StreamSample, SwitchRun

SEED = 13
NUM_DRAWS = 2_000
NUM_BESIDE = 20  # ordinary gaps before the switch, beside which its own is looked at


@dataclass(frozen=True)
class Gap:
    began_at_s: float
    ended_at_s: float
    num_tokens: int  # that came at its end
    index: int  # of the first of them, from 1

    @property
    def took_s(self) -> float:
        return self.ended_at_s - self.began_at_s


@dataclass(frozen=True)
class Pause:
    """Of one stream."""

    gap_s: float  # the longest around the switch
    ordinary_s: float  # the median of those before it
    num_context_tokens: int  # at the switch

    @property
    def added_s(self) -> float:
        return max(0.0, self.gap_s - self.ordinary_s)


@dataclass(frozen=True)
class Interval:
    value: float
    low: float
    high: float


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def gaps(arrivals: Sequence[Arrival]) -> list[Gap]:
    pairs = pairwise(arrivals)
    return [Gap(a.at_s, b.at_s, b.num_tokens - a.num_tokens, a.num_tokens + 1) for a, b in pairs]


def pause_of(stream: StreamSample, record: SwitchRecord) -> Pause | None:
    """None of a stream that had ended, or had too few tokens to say what is ordinary."""
    found = gaps(stream.arrivals)
    at_switch = [
        g for g in found if g.ended_at_s > record.frozen_at_s and g.began_at_s < record.stepped_at_s
    ]
    before = [g for g in found if g.ended_at_s <= record.frozen_at_s and g.num_tokens == 1]
    if not at_switch or not before:
        return None
    ordinary_s = median(g.took_s for g in before[-NUM_BESIDE:])
    longest = max(at_switch, key=lambda gap: gap.took_s)
    num_context_tokens = stream.num_prompt_tokens + longest.index - 1
    return Pause(longest.took_s, ordinary_s, num_context_tokens)


def pauses(run: SwitchRun) -> list[Pause]:
    found = [pause_of(stream, run.record) for stream in run.streams]
    return [pause for pause in found if pause is not None]


def median_interval(ratios: Sequence[float]) -> Interval:
    """The median with its 95 % interval of the bootstrap over pairs."""
    draw = random.Random(SEED)
    drawn = sorted(median(draw.choices(ratios, k=len(ratios))) for _ in range(NUM_DRAWS))
    return Interval(median(ratios), percentile(drawn, 0.025), percentile(drawn, 0.975))
