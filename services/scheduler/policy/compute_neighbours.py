"""Who computes on each device, by the rows of endpoints and by what their agents say. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from services.scheduler.policy.cluster import Device, Endpoint, Worker
from services.scheduler.policy.observed import Observed
from services.scheduler.policy.prediction.device_shares import DeviceNeighbour, demand_of
from services.scheduler.policy.tables.table import Table


@dataclass(frozen=True)
class ComputeNeighbours:
    """Worked out for the few devices that are asked about."""

    endpoints: Table[Endpoint]
    devices: Mapping[str, tuple[Device, ...]]  # by node
    observed: Observed

    def of(self, node_id: str, device_index: int) -> Sequence[DeviceNeighbour]:
        found = (d for d in self.devices.get(node_id, ()) if d.index == device_index)
        device = next(found, None)
        if device is None or device.memory_bytes <= 0:
            return ()
        return tuple(self._on(device))

    def _on(self, device: Device) -> Iterator[DeviceNeighbour]:
        for endpoint in self.endpoints.by("node", device.node_id):
            for worker in endpoint.workers:
                is_there = (worker.node_id, worker.device_index) == (device.node_id, device.index)
                if is_there and worker.device_bytes > 0:
                    share = worker.device_bytes / device.memory_bytes
                    yield DeviceNeighbour(min(1.0, share), self._demand(endpoint, worker))

    def _demand(self, endpoint: Endpoint, worker: Worker) -> float:
        """Only the entry knows of requests; the other stages compute when it does."""
        seen, entry = self.observed.worker(worker), self.observed.entry(endpoint)
        return demand_of(
            None if seen is None else seen.compute_demand,
            is_starting=not endpoint.has_been_ready and endpoint.state.can_take_requests,
            num_requests=0 if entry is None else entry.num_running + entry.num_waiting,
        )
