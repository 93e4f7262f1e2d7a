"""How the workers of a node share its processor and its GPUs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from libs.common.bus.messages import WorkerSpec
from services.worker.agent.devices.device import Device
from services.worker.agent.settings import DeviceKind
from services.worker.agent.shares.cpu_shares import (
    CpuShares,
    EqualShares,
    RunningShare,
    cpu_shares,
)
from services.worker.agent.shares.mps import mps_environment


class Runs(Protocol):
    """A worker as its agent sees it."""

    @property
    def spec(self) -> WorkerSpec: ...

    @property
    def pid(self) -> int | None: ...

    @property
    def is_starting(self) -> bool: ...

    @property
    def is_finished(self) -> bool: ...


@dataclass(frozen=True)
class NodeCompute:
    """Shares are weights, which count where several want the same; or caps, which always count."""

    devices: tuple[Device, ...]
    cpu: CpuShares = field(default_factory=EqualShares)
    are_caps: bool = False
    mps_pipes: Path | None = None  # None: no GPU of this node is shared by MPS

    def max_threads(self, spec: WorkerSpec) -> int:
        """Of a worker's engine, while nobody else wants the cores."""
        return spec.cores if self.are_caps else self.devices[spec.device_index].cores

    def environment(self, spec: WorkerSpec, others: Iterable[Runs]) -> Mapping[str, str]:
        """What its process needs in its environment beside what all have. `others` are here."""
        device = self.devices[spec.device_index]
        if self.mps_pipes is None or device.kind is not DeviceKind.CUDA:
            return {}
        neighbours = [
            other.spec.device_bytes
            for other in others
            if not other.is_finished and self.devices[other.spec.device_index].uuid == device.uuid
        ]
        cap_of = device.memory_bytes if self.are_caps else None
        return mps_environment(self.mps_pipes, spec.device_bytes, neighbours, cap_of)

    def apply(self, workers: Iterable[Runs]) -> None:
        """Give every running worker its share of the processor; call it again and again."""
        running = [_running(w, self.devices) for w in workers if not w.is_finished]
        node_cores = sum(device.cores for device in self.devices)
        self.cpu.apply(cpu_shares([one for one in running if one is not None], node_cores))


def _running(worker: Runs, devices: tuple[Device, ...]) -> RunningShare | None:
    """None while it has no process."""
    spec, pid = worker.spec, worker.pid
    if pid is None:
        return None
    device = devices[spec.device_index]
    return RunningShare(spec.worker_id, pid, device, spec.device_bytes, worker.is_starting)
