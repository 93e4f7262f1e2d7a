"""Watches what a worker process gets of its device's cores. Stdlib only, and next to nothing to
import: what measures is imported half a second after the start, when nobody waits for it."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.worker.runtime.compute.readings import Readings

INTERVAL_S = 0.5  # a reading takes a third of a millisecond


class ComputeMonitor:
    """Does nothing until `begin`: while a worker starts, and of one whose device is a GPU.

    The engine's thread calls; any thread may read `share` and `demand`, which are as
    WorkerObserved has them.
    """

    def __init__(self) -> None:
        self.share: float | None = None
        self.demand: float | None = None
        self._begin: Callable[[], Readings] | None = None
        self._readings: Readings | None = None
        self._due_s = 0.0  # monotonic

    def begin(self, least: int, most: int, set_threads: Callable[[int], None]) -> None:
        """The engine has `least` threads now, its share of the cores; `most` are all of them."""

        def begin() -> "Readings":
            from services.worker.runtime.compute.readings import Readings
            from services.worker.runtime.compute.thread_count import ThreadLimits

            return Readings(ThreadLimits(least, most), set_threads)

        self._begin = begin
        self._due_s = time.monotonic() + INTERVAL_S

    def between_steps(self) -> None:
        if self._begin is None or time.monotonic() < self._due_s:
            return
        if self._readings is None:
            self._readings = self._begin()
        else:
            figures = self._readings.take()
            self.share, self.demand = figures.share, figures.demand
        self._due_s = time.monotonic() + INTERVAL_S
