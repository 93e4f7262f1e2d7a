"""How long a consolidation takes, as predicted. Pure.

From its beginning until the entry has all layers: the fetch, which gets what interactive ones leave
of the node's network, and what the last bytes take to become part of the model. Keys and values
come meanwhile, or take a moment after it.
"""

from services.scheduler.policy.cluster import Endpoint, Worker
from services.scheduler.policy.consolidation.consolidation import Consolidation
from services.scheduler.policy.consolidation.target import ConsolidationTarget
from services.scheduler.policy.network.known_rates import nic_rate_bytes_per_s
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.network.observed_flows import held_of
from services.scheduler.policy.prefetching.fetch_time import background_fetch_s
from services.scheduler.policy.snapshot import Snapshot


def duration_s(
    snapshot: Snapshot, endpoint: Endpoint, target: ConsolidationTarget, network: Network
) -> float:
    """Of one that begins now; inf where nothing is known of its node."""
    entry = endpoint.entry
    assert entry is not None, "it has a target"
    missing_bytes = _missing_bytes(snapshot, entry, target)
    fetch_s = background_fetch_s(network, {entry.node_id: missing_bytes})
    return fetch_s + snapshot.measured.of_node(entry.node_id).tail_s


def left_s(snapshot: Snapshot, entry: Worker, open_: Consolidation) -> float:
    """Of one that is under way, at the least: as if nobody else used the network."""
    heard = snapshot.observed.fetchers.get(entry.node_id)
    if heard is None:
        return 0.0
    figures = snapshot.measured.of_node(entry.node_id)
    rate = nic_rate_bytes_per_s(heard.heartbeat.nic_bytes_per_s, figures)
    fetch = heard.fetches.get(open_.fetch_id)
    left_bytes = 0 if fetch is None else fetch.bytes_total - fetch.bytes_done
    return left_bytes / rate + figures.tail_s


def _missing_bytes(snapshot: Snapshot, entry: Worker, target: ConsolidationTarget) -> int:
    """What its node has not, as far as is known: others run there, of this endpoint perhaps."""
    there = set(held_of(snapshot, entry.manifest_digest, entry.node_id) or ())
    for endpoint in snapshot.endpoints.by("node", entry.node_id):
        for worker in endpoint.workers:
            if worker.node_id == entry.node_id:
                there.update(worker.unit_digests)
    return sum(unit.size_bytes for unit in target.lacking if unit.digest not in there)
