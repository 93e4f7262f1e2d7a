"""What is reserved of each device, and what each model has used: memory x time.

More than a device has must never be reserved: that ends a run.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from services.scheduler.policy.cluster import Worker
from services.scheduler.simulation.errors import SimulationError


@dataclass(eq=False)
class _Reservation:
    worker: Worker
    model_id: str
    since_s: float
    is_starting: bool = True


@dataclass(eq=False)
class DeviceLedger:
    """`memory_bytes` is by node and device. `starting_byte_s` is the part of all until endpoints
    served."""

    memory_bytes: dict[tuple[str, int], int]
    reserved_bytes: defaultdict[tuple[str, int], int] = field(
        default_factory=lambda: defaultdict(int)
    )
    byte_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))  # by model
    starting_byte_s: float = 0.0
    _open: dict[str, _Reservation] = field(default_factory=dict)  # by worker

    def reserve(self, worker: Worker, model_id: str, now_s: float) -> None:
        place = (worker.node_id, worker.device_index)
        self.reserved_bytes[place] += worker.device_bytes
        if self.reserved_bytes[place] > self.memory_bytes[place]:
            raise SimulationError(
                f"device {place[1]} of node {place[0]} has {self.memory_bytes[place]} bytes, and "
                f"{self.reserved_bytes[place]} are reserved at {now_s:.3f} s"
            )
        self._open[worker.id] = _Reservation(worker, model_id, now_s)

    def serve(self, worker_id: str, now_s: float) -> None:
        """Its endpoint is ready."""
        self._end_start(self._open[worker_id], now_s)

    def release(self, worker_id: str, now_s: float) -> None:
        own = self._open.pop(worker_id)
        self._end_start(own, now_s)
        worker = own.worker
        self.reserved_bytes[worker.node_id, worker.device_index] -= worker.device_bytes
        self.byte_s[own.model_id] += worker.device_bytes * (now_s - own.since_s)

    def close(self, now_s: float) -> None:
        """The run is over: what is still reserved counts until now."""
        for worker_id in list(self._open):
            self.release(worker_id, now_s)

    def _end_start(self, own: _Reservation, now_s: float) -> None:
        if own.is_starting:
            own.is_starting = False
            self.starting_byte_s += own.worker.device_bytes * (now_s - own.since_s)
