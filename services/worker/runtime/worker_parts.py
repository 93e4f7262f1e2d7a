"""What a worker process has made ready by the time it builds its engine."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.worker.frames.frames import StartWorker
from services.worker.runtime.channel import Channel
from services.worker.runtime.start_steps import StartSteps
from services.worker.runtime.unit_mapper import UnitMapper

if TYPE_CHECKING:  # a whole model does not load ZeroMQ, a CPU no driver
    from services.worker.runtime.cuda.loading import DeviceLoading
    from services.worker.runtime.dataplane.plane import DataPlane
    from services.worker.runtime.neighbours import NeighbourConnections


@dataclass(frozen=True)
class WorkerParts:
    start: StartWorker
    channel: Channel
    steps: StartSteps
    mapper: UnitMapper
    loading: "DeviceLoading | None"  # has begun to fill the device; None on a CPU
    neighbours: "NeighbourConnections | None"  # None for a whole model

    @property
    def plane(self) -> "DataPlane | None":
        return None if self.neighbours is None else self.neighbours.plane

    def wait_linked(self) -> None:
        """Until the neighbours are there; a whole model waits for nobody.

        Raises LinkTimedOut or NeighbourLost.
        """
        if self.neighbours is not None:
            self.neighbours.wait()
