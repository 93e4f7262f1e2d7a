"""Measures what a process got of the processor time that it wanted. Pure.

A thread wants a core while it runs and while it waits for one that another thread has; asleep it
wants none. So `share = run / (run + wait)`: 1 on idle cores, one half where two want the same one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from services.worker.runtime.compute.cpu_times import ThreadTime

HALF_LIFE_S: Final = 2.0  # what was so long ago weighs half
MIN_WANTED_S: Final = 0.02  # of less nothing can be said


@dataclass(frozen=True)
class ComputeFigures:
    """Each 0 to 1, of the last seconds. None: not measured, or nothing was wanted."""

    share: float | None = None  # of the time that it wanted, what it got
    demand: float | None = None  # of its device's cores, what it wanted


@dataclass(frozen=True)
class Interval:
    """Between two readings, in seconds; of all threads together."""

    wall_s: float
    run_s: float
    wait_s: float

    @property
    def share(self) -> float | None:
        wanted_s = self.run_s + self.wait_s
        return self.run_s / wanted_s if wanted_s >= MIN_WANTED_S else None


def interval(
    before: Mapping[int, ThreadTime], now: Mapping[int, ThreadTime], wall_s: float
) -> Interval:
    """Threads that have ended meanwhile do not count."""
    began = ThreadTime(0, 0)
    pairs = [(before.get(thread, began), time) for thread, time in now.items()]
    run_ns = sum(max(0, new.run_ns - old.run_ns) for old, new in pairs)
    wait_ns = sum(max(0, new.wait_ns - old.wait_ns) for old, new in pairs)
    return Interval(wall_s, run_ns / 1e9, wait_ns / 1e9)


class ComputeMeter:
    """Sums whose parts fade with their age."""

    def __init__(self, num_cores: int) -> None:
        self._num_cores = num_cores
        self._faded = Interval(0.0, 0.0, 0.0)

    def add(self, latest: Interval) -> ComputeFigures:
        fade, old = 0.5 ** (latest.wall_s / HALF_LIFE_S), self._faded
        self._faded = Interval(
            latest.wall_s + fade * old.wall_s,
            latest.run_s + fade * old.run_s,
            latest.wait_s + fade * old.wait_s,
        )
        return self._figures

    @property
    def _figures(self) -> ComputeFigures:
        faded = self._faded
        wanted_s, whole_s = faded.run_s + faded.wait_s, faded.wall_s * self._num_cores
        share = faded.share
        return ComputeFigures(
            share=None if share is None else round(share, 3),
            demand=round(min(1.0, wanted_s / whole_s), 3) if whole_s > 0 else None,
        )
