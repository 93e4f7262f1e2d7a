"""Errors of the data plane between stages.

DataPlaneError
├── BindError          the advertised host has no address or port for this process
├── WireError          a message that no stage of ours sends: size, magic, counts
├── LinkTimedOut       the neighbours were not there in time
├── SendTimedOut       the next stage takes nothing any more
└── NeighbourLost      a neighbour that was linked is gone, or refuses this stage; `stage` says who
"""

from services.worker.errors import WorkerError


class DataPlaneError(WorkerError):
    pass


class BindError(DataPlaneError):
    pass


class WireError(DataPlaneError):
    pass


class LinkTimedOut(DataPlaneError):
    pass


class SendTimedOut(DataPlaneError):
    pass


class NeighbourLost(DataPlaneError):
    def __init__(self, own_stage: int, stage: int, how: str) -> None:
        super().__init__(f"stage {own_stage} lost its neighbour stage {stage}: {how}")
        self.stage = stage
