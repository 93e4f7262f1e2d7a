"""Builds the executor of the whole model beside the stage that runs, a little between two steps."""

from collections.abc import Iterator

from libs.common.weights.manifest import UnitKind
from services.worker.engine.execution.executor import Executor
from services.worker.engine.model.weights import ArrivingWeights, UnitKey


class WholeLoading:
    """For the thread that owns the stage. It waits for nothing."""

    def __init__(self, stage: Executor, source: ArrivingWeights, *, packed_bytes: int) -> None:
        """Allocates the cache of the layers that join. `stage` has all its weights.

        Raises RuntimeError where there is no memory for it.
        """
        self._source = source
        self.executor = stage.whole(source, packed_bytes=packed_bytes)
        self._units: Iterator[None] = self.executor.load_units()
        self.is_complete = False

    def load_next(self) -> bool:
        """Some milliseconds of work: a unit that has arrived, then what makes steps faster. False
        when there is nothing to do now.

        Raises WeightsUnavailable or TensorError.
        """
        if missing := self.executor.missing_units:
            if not all(map(self._source.is_ready, _taken_together(missing))):
                return False
            next(self._units, None)
            return True
        if not self.is_complete and not self.executor.optimize_step():
            self.is_complete = True
            return True
        return not self.is_complete


def _taken_together(missing: list[UnitKey]) -> list[UnitKey]:
    """The units of the next step of loading: the head's come last, and at once."""
    return missing if missing[0].kind is UnitKind.FINAL_NORM else missing[:1]
