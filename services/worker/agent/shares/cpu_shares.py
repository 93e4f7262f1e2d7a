"""What each worker process shall have of its node's processor, and the port that sees to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.worker.agent.devices.device import Device


@dataclass(frozen=True)
class CpuShare:
    """Of one worker. `pid` leads a session and a process group of its own, as every worker does."""

    worker_id: str
    pid: int
    weight: float  # against the node's other workers, in (0, 1]
    cap_cores: float  # the most that it may use, where shares are caps


class CpuShares(Protocol):
    def apply(self, shares: Sequence[CpuShare]) -> None:
        """Make it so. Call it with all workers that run, again and again: what is as it should be
        costs nothing, and what could not be done is tried again. Raises nothing that one worker's
        end, or a missing permission, can cause."""


class EqualShares:
    """Leaves every worker as the kernel started it."""

    def apply(self, shares: Sequence[CpuShare]) -> None:
        pass


@dataclass(frozen=True)
class RunningShare:
    """What is known of a worker when shares are given out."""

    worker_id: str
    pid: int
    device: Device
    device_bytes: int  # reserved for it
    is_starting: bool

    @property
    def of_device(self) -> float:
        """In (0, 1]: compute follows memory."""
        return min(1.0, self.device_bytes / self.device.memory_bytes)


def cpu_shares(workers: Sequence[RunningShare], node_cores: int) -> tuple[CpuShare, ...]:
    """Weight = share of the device's memory x the device's part of the node's cores.

    A worker that starts counts as much as the largest on its device: its start is short, somebody
    waits for it, and a small one beside a large one that computes would take many times as long.
    """
    largest: dict[int, float] = {}
    for worker in workers:
        index = worker.device.index
        largest[index] = max(worker.of_device, largest.get(index, 0.0))
    return tuple(
        _cpu_share(worker, largest[worker.device.index] if worker.is_starting else None, node_cores)
        for worker in workers
    )


def _cpu_share(worker: RunningShare, raised_to: float | None, node_cores: int) -> CpuShare:
    share = worker.of_device if raised_to is None else raised_to
    return CpuShare(
        worker_id=worker.worker_id,
        pid=worker.pid,
        weight=share * worker.device.cores / node_cores,
        cap_cores=worker.of_device * worker.device.cores,
    )
