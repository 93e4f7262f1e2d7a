"""Reads what the process got since the last time, and sets its number of threads accordingly."""

import os
import time
from collections.abc import Callable

from services.worker.runtime.compute.compute_meter import ComputeFigures, ComputeMeter, interval
from services.worker.runtime.compute.cpu_times import read_idle_s, read_thread_times
from services.worker.runtime.compute.thread_count import ThreadCount, ThreadLimits, next_count


class Readings:
    """Begins with the moment in which it is made."""

    def __init__(self, limits: ThreadLimits, set_threads: Callable[[int], None]) -> None:
        self._limits, self._set_threads = limits, set_threads
        self._count = ThreadCount(limits.least)
        self._meter = ComputeMeter(limits.most)
        self._cores = os.sched_getaffinity(0)
        self._at_s, self._times = time.monotonic(), read_thread_times()
        self._idle_s = self._read_idle_s()

    def take(self) -> ComputeFigures:
        now_s, times, idle_s = time.monotonic(), read_thread_times(), self._read_idle_s()
        latest = interval(self._times, times, now_s - self._at_s)
        idle_cores = None
        if idle_s is not None and self._idle_s is not None:
            idle_cores = (idle_s - self._idle_s) / latest.wall_s
        self._adapt(latest.share, idle_cores, now_s)
        self._at_s, self._times, self._idle_s = now_s, times, idle_s
        return self._meter.add(latest) if times else ComputeFigures()

    def _adapt(self, share: float | None, idle_cores: float | None, now_s: float) -> None:
        count = next_count(self._count, self._limits, share, idle_cores, now_s)
        if count.value != self._count.value:
            self._set_threads(count.value)
        self._count = count

    def _read_idle_s(self) -> float | None:
        """Of no interest where the number of threads is given."""
        if self._limits.least == self._limits.most:
            return None
        return read_idle_s(self._cores)
