"""What a pipeline's stages have of their devices' compute, while others compute there. Pure."""

from collections.abc import Iterator

from services.scheduler.policy.cluster import Endpoint, Worker
from services.scheduler.policy.prediction.slowdown import StageShare, slowdown_of
from services.scheduler.policy.snapshot import Snapshot


def current_slowdown(snapshot: Snapshot, endpoint: Endpoint) -> float:
    """phi of the endpoint as it is: compute follows memory among those that work at this moment,
    and who is alone with a device has all of it."""
    return slowdown_of(_shares(snapshot, endpoint)) or 1.0


def _shares(snapshot: Snapshot, endpoint: Endpoint) -> Iterator[StageShare]:
    num_layers = sum(member.last_layer - member.first_layer for member in endpoint.members)
    by_id = {worker.id: worker for worker in endpoint.workers}
    for member in endpoint.members:
        worker, num_own = by_id.get(member.worker_id), member.last_layer - member.first_layer
        if worker is not None and num_own:
            others = sum(other.device_bytes for other in _working_beside(snapshot, worker))
            of_compute = worker.device_bytes / (worker.device_bytes + others)
            yield StageShare(num_own / num_layers, of_compute)


def _working_beside(snapshot: Snapshot, worker: Worker) -> Iterator[Worker]:
    """Workers of other endpoints, on the same device, whose requests run."""
    for endpoint in snapshot.endpoints.by("node", worker.node_id):
        if endpoint.id == worker.endpoint_id:
            continue
        entry = snapshot.observed.entry(endpoint)
        if entry is None or entry.num_running == 0:
            continue
        for other in endpoint.workers:
            if (other.node_id, other.device_index) == (worker.node_id, worker.device_index):
                yield other
