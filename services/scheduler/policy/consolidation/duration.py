"""How long a consolidation takes, as predicted. Pure.

From its beginning until the worker has all layers: the fetch, which gets what interactive ones
leave of the node's network, and what the last bytes take to become part of the model. Keys and
values come meanwhile, or take a moment after it.
"""

from services.scheduler.policy.cluster import Worker
from services.scheduler.policy.consolidation.consolidation import Consolidation
from services.scheduler.policy.consolidation.target import ConsolidationTarget
from services.scheduler.policy.network.known_rates import nic_rate_bytes_per_s
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.network.observed_flows import held_of
from services.scheduler.policy.prefetching.fetch_time import background_fetch_s
from services.scheduler.policy.snapshot import Snapshot


def duration_s(
    snapshot: Snapshot, worker: Worker, target: ConsolidationTarget, network: Network
) -> float:
    """Of one that begins now; inf where nothing is known of its node."""
    missing_bytes = _missing_bytes(snapshot, worker, target)
    fetch_s = background_fetch_s(network, {worker.node_id: missing_bytes})
    return fetch_s + snapshot.measured.of_node(worker.node_id).tail_s


def left_s(snapshot: Snapshot, worker: Worker, open_: Consolidation) -> float:
    """Of one that is under way, at the least: as if nobody else used the network."""
    heard = snapshot.observed.fetchers.get(worker.node_id)
    if heard is None:
        return 0.0
    figures = snapshot.measured.of_node(worker.node_id)
    rate = nic_rate_bytes_per_s(heard.heartbeat.nic_bytes_per_s, figures)
    fetch = heard.fetches.get(open_.fetch_id)
    left_bytes = 0 if fetch is None else fetch.bytes_total - fetch.bytes_done
    return left_bytes / rate + figures.tail_s


def _missing_bytes(snapshot: Snapshot, worker: Worker, target: ConsolidationTarget) -> int:
    """What its node has not, as far as is known: others run there, of this endpoint perhaps."""
    there = set(held_of(snapshot, worker.manifest_digest, worker.node_id) or ())
    for endpoint in snapshot.endpoints.by("node", worker.node_id):
        for other in endpoint.workers:
            if other.node_id == worker.node_id:
                there.update(other.unit_digests)
    return sum(unit.size_bytes for unit in target.lacking if unit.digest not in there)
