"""A stage behind the entry on its way to the whole model, beside the pipeline that it works for.

Its layers are loaded, and made fast, between micro-batches. It stays a stage until the entry closes
the ring; then it is an endpoint of its own, which starts empty: the keys and values in its cache
were of requests that the entry has taken with it.
"""

import time
from collections.abc import Callable

import torch

from services.worker.engine.consolidation.whole_loading import WholeLoading
from services.worker.engine.consolidation.work_pace import WorkPace
from services.worker.engine.execution.executor import Executor
from services.worker.engine.model.weights import ArrivingWeights
from services.worker.engine_port import GrowthEvents
from services.worker.errors import WorkerError


class Growth:
    """For the thread that owns the stage, without gradients."""

    def __init__(
        self,
        stage: Executor,
        source: ArrivingWeights,
        events: GrowthEvents,
        *,
        packed_bytes: int,
        busy_share: float,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`packed_bytes`: for packed copies of all weights; `busy_share`: of the time of a stage
        that is busy, for loading."""
        self._stage, self._source, self._events = stage, source, events
        self._packed_bytes = packed_bytes
        self._pace = WorkPace(busy_share, monotonic_s)
        self._loading: WholeLoading | None = None
        self.whole: Executor | None = None  # once it is complete
        self.has_ended = False  # it was given up

    def load_next(self, *, is_busy: bool) -> bool:
        """Some milliseconds of loading, if it is its turn; False when there is nothing to do now.

        What fails is told to the events, and the stage stays as it is.
        """
        if self.has_ended or self.whole is not None or not self._stage.is_loaded:
            return False
        try:
            return self._pace.run(self._load_next, is_busy=is_busy)
        except torch.AcceleratorError:  # the device is broken, for the pipeline too
            raise
        except (WorkerError, RuntimeError) as exc:  # RuntimeError: there is no memory for it
            self.abandon(str(exc).splitlines()[0])
            return False

    def _load_next(self) -> bool:
        if self._loading is None:
            packed_bytes = self._packed_bytes
            self._loading = WholeLoading(self._stage, self._source, packed_bytes=packed_bytes)
            return True
        has_worked = self._loading.load_next()
        if self._loading.is_complete:
            self.whole = self._loading.executor
            self._events.loaded()
        return has_worked

    def abandon(self, why: str) -> None:
        """It stays a stage; nothing if it has ended already."""
        if self.has_ended:
            return
        self.has_ended = True
        self._loading = self.whole = None
        self._events.abandoned(why)
