"""Introduces the stages of a pipeline to each other, and lets workers start that waited for their
weights. Pure, level-triggered: what nobody was told of is found by whichever leader looks next."""

from collections.abc import Iterator

from libs.common.bus.messages import Peer
from libs.common.states import FetchState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Endpoint, Worker
from services.scheduler.policy.snapshot import Snapshot


def connect_stages(_snapshot: Snapshot, endpoint: Endpoint) -> Iterator[d.Decision]:
    """Whoever is not linked although both its neighbours are known."""
    ring = endpoint.member_workers
    if not endpoint.state.can_take_requests or not endpoint.is_whole or endpoint.num_stages < 2:
        return
    for index, worker in enumerate(ring):
        previous, following = _peer(ring[index - 1]), _peer(ring[(index + 1) % len(ring)])
        if worker.is_connected or previous is None or following is None:
            continue
        yield d.ConnectWorker(
            endpoint.model_id, endpoint.id, worker.id, worker.node_id, previous, following
        )


def launch_fetched(snapshot: Snapshot, endpoint: Endpoint) -> Iterator[d.Decision]:
    """Workers that were to wait for their weights, once those are there."""
    for worker in endpoint.workers:
        if not worker.is_desired or worker.is_launch_due:
            continue
        fetch = snapshot.observed.fetch(worker)
        if fetch is not None and fetch.state is FetchState.COMPLETE:
            yield d.LaunchWorker(endpoint.model_id, endpoint.id, worker.id, worker.node_id)


def _peer(worker: Worker) -> Peer | None:
    """None before it has registered."""
    if worker.address is None or worker.public_key is None:
        return None
    return Peer(worker_id=worker.id, address=worker.address, public_key=worker.public_key)
