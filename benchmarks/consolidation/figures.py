"""What raw samples say: gaps between tokens, pauses, ratios of pairs. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, inf
from statistics import median

from benchmarks.consolidation.record import SwitchRecord
from benchmarks.consolidation.samples import Arrival, StreamSample, SwitchRun

SEED = 13
NUM_DRAWS = 2_000
NUM_BESIDE = 20  # ordinary gaps before the switch, beside which its own is looked at
FIRST_TOKEN = 3  # from which on a stream decodes


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


@dataclass(frozen=True)
class Loading:
    """Gaps between tokens while the rest of the weights is loaded, and of the same tokens of the
    same streams on a pipeline that loads nothing."""

    during_s: tuple[float, ...]
    without_s: tuple[float, ...]

    @property
    def median_ratio(self) -> float:
        return median(self.during_s) / median(self.without_s)


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
    """None of a run that was not consolidated."""
    if run.record is None:
        return []
    found = [pause_of(stream, run.record) for stream in run.streams]
    return [pause for pause in found if pause is not None]


def window(run: SwitchRun) -> tuple[float, float]:
    """While it loads and all streams decode."""
    assert run.record is not None, "it was consolidated"
    return max(all_decode_at_s(run), run.record.loading_at_s), run.record.loaded_at_s


def all_decode_at_s(run: SwitchRun) -> float:
    """When each stream has its first few tokens, so that no prompt is computed any more."""
    firsts = (
        next((a.at_s for a in stream.arrivals if a.num_tokens >= FIRST_TOKEN), inf)
        for stream in run.streams
    )
    return max(firsts)


def loading(run: SwitchRun, without: SwitchRun) -> Loading | None:
    """None where loading was over before all streams decoded."""
    (began_s, ended_s), decode_at_s = window(run), all_decode_at_s(without)
    during_s: list[float] = []
    without_s: list[float] = []
    for own, other in zip(run.streams, without.streams, strict=True):
        inside = [g for g in gaps(own.arrivals) if began_s <= g.began_at_s < ended_s]
        numbers = {gap.index for gap in inside}
        same = [
            gap
            for gap in gaps(other.arrivals)
            if gap.index in numbers and gap.began_at_s >= decode_at_s
        ]
        numbers = {gap.index for gap in same}
        during_s += [gap.took_s for gap in inside if gap.index in numbers]
        without_s += [gap.took_s for gap in same]
    return Loading(tuple(during_s), tuple(without_s)) if during_s else None


def loadings(runs: Sequence[SwitchRun]) -> list[Loading]:
    """Of each index of which both runs are there."""
    without = {run.index: run for run in runs if run.record is None}
    found = [
        loading(run, without[run.index])
        for run in runs
        if run.record is not None and run.index in without
    ]
    return [pair for pair in found if pair is not None]


def median_interval(ratios: Sequence[float]) -> Interval:
    """The median with its 95 % interval of the bootstrap over pairs."""
    draw = random.Random(SEED)
    drawn = sorted(median(draw.choices(ratios, k=len(ratios))) for _ in range(NUM_DRAWS))
    return Interval(median(ratios), percentile(drawn, 0.025), percentile(drawn, 0.975))
