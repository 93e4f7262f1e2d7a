"""A device of this node that is known to be there."""

from dataclasses import dataclass

from libs.common.bus.messages import DeviceObserved
from services.worker.agent.settings import DeviceKind


@dataclass(frozen=True)
class Device:
    index: int  # how the scheduler names it
    kind: DeviceKind
    uuid: str | None  # of a GPU or a MIG instance; None on CPU
    memory_bytes: int
    cores: int
    has_bfloat16: bool = True  # whether it computes models of that type

    @property
    def torch_name(self) -> str:
        """As the worker process sees it: it is shown one GPU only."""
        return "cpu" if self.kind is DeviceKind.CPU else "cuda:0"

    @property
    def observed(self) -> DeviceObserved:
        return DeviceObserved(
            index=self.index,
            kind="cpu" if self.kind is DeviceKind.CPU else "cuda",
            memory_bytes=self.memory_bytes,
            cores=self.cores,
            has_bfloat16=self.has_bfloat16,
        )
