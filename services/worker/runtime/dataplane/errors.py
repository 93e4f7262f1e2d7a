"""Errors of the data plane between stages.

DataPlaneError
├── BindError          the advertised host has no address or port for this process
├── WireError          a message that no stage of ours sends: size, magic, counts
├── KvInletFailed      keys and values can no longer be received; says why
├── LinkTimedOut       the neighbours were not there in time: `stage` (its own), `timeout_s`
├── SendTimedOut       the next stage takes nothing any more, for `timeout_s`
└── NeighbourLost      a neighbour that was linked is gone, or refuses this stage: `own_stage`,
                       `stage` (the lost one), `how`
"""

from services.worker.errors import WorkerError


class DataPlaneError(WorkerError):
    pass


class BindError(DataPlaneError):
    pass


class WireError(DataPlaneError):
    pass


class KvInletFailed(DataPlaneError):
    pass


class LinkTimedOut(DataPlaneError):
    def __init__(self, stage: int, timeout_s: float) -> None:
        super().__init__(f"stage {stage} was not linked within {timeout_s:g} s")
        self.stage, self.timeout_s = stage, timeout_s


class SendTimedOut(DataPlaneError):
    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"the next stage took nothing for {timeout_s:g} s")
        self.timeout_s = timeout_s


class NeighbourLost(DataPlaneError):
    def __init__(self, own_stage: int, stage: int, how: str) -> None:
        super().__init__(f"stage {own_stage} lost its neighbour stage {stage}: {how}")
        self.own_stage, self.stage, self.how = own_stage, stage, how
