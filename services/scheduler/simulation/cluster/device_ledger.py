"""What is reserved of each device, and what each group of models has used: memory x time.

More than a device has must never be reserved: that ends a run.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from services.scheduler.policy.cluster import Worker
from services.scheduler.simulation.errors import SimulationError


@dataclass(eq=False)
class DeviceLedger:
    """`memory_bytes` is by node and device."""

    memory_bytes: dict[tuple[str, int], int]
    reserved_bytes: defaultdict[tuple[str, int], int] = field(
        default_factory=lambda: defaultdict(int)
    )
    byte_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))  # by model
    _open: dict[str, tuple[Worker, str, float]] = field(default_factory=dict)

    def reserve(self, worker: Worker, model_id: str, now_s: float) -> None:
        place = (worker.node_id, worker.device_index)
        self.reserved_bytes[place] += worker.device_bytes
        if self.reserved_bytes[place] > self.memory_bytes[place]:
            raise SimulationError(
                f"device {place[1]} of node {place[0]} has {self.memory_bytes[place]} bytes, and "
                f"{self.reserved_bytes[place]} are reserved at {now_s:.3f} s"
            )
        self._open[worker.id] = (worker, model_id, now_s)

    def release(self, worker_id: str, now_s: float) -> None:
        worker, model_id, since_s = self._open.pop(worker_id)
        self.reserved_bytes[worker.node_id, worker.device_index] -= worker.device_bytes
        self.byte_s[model_id] += worker.device_bytes * (now_s - since_s)

    def close(self, now_s: float) -> None:
        """The run is over: what is still reserved counts until now."""
        for worker_id in list(self._open):
            self.release(worker_id, now_s)
