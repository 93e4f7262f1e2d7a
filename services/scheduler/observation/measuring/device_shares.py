"""What a pipeline's stages have of their devices' compute, while others compute there. Pure."""

from collections.abc import Iterator

from services.scheduler.policy.cluster import Endpoint, Worker
from services.scheduler.policy.prediction.slowdown import StageShare, slowdown_of
from services.scheduler.policy.snapshot import Snapshot

LEAST_SHARE = 0.05  # a moment of less says nothing of the model


def current_slowdown(snapshot: Snapshot, endpoint: Endpoint) -> float:
    """phi of the endpoint as it is, by the share of compute that its workers have measured, which
    also knows of whom nobody else tells. Where none is measured (on a GPU) compute follows memory
    among those that work at this moment, and who is alone with a device has all of it."""
    return slowdown_of(_shares(snapshot, endpoint)) or 1.0


def _shares(snapshot: Snapshot, endpoint: Endpoint) -> Iterator[StageShare]:
    num_layers = sum(member.last_layer - member.first_layer for member in endpoint.members)
    by_id = {worker.id: worker for worker in endpoint.workers}
    for member in endpoint.members:
        worker, num_own = by_id.get(member.worker_id), member.last_layer - member.first_layer
        if worker is not None and num_own:
            yield StageShare(num_own / num_layers, _share(snapshot, worker))


def _share(snapshot: Snapshot, worker: Worker) -> float:
    seen = snapshot.observed.worker(worker)
    if seen is not None and seen.compute_share is not None:
        return max(LEAST_SHARE, seen.compute_share)
    others = sum(other.device_bytes for other in _working_beside(snapshot, worker))
    return worker.device_bytes / (worker.device_bytes + others)


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
