"""The flows of a node as its fetcher and the rows have them. Pure.

What a fetcher has reported counts as it has reported it. A worker that is to start, and whose fetch
nobody has reported yet, counts with all that its node lacks.
"""

from collections.abc import Iterable, Mapping

from libs.common.bus.messages import FetchObserved
from libs.common.states import FetchClass, FetchState, StartPurpose, WorkerState
from services.scheduler.policy.cluster import Worker
from services.scheduler.policy.network.flow import Flow
from services.scheduler.policy.network.known_rates import KnownRates, Rates
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.network.node_flows import NodeFlows
from services.scheduler.policy.snapshot import Snapshot

_BEFORE_READY = (WorkerState.PLANNED, WorkerState.LAUNCHING, WorkerState.REGISTERED)
_IS_RUNNING = (FetchState.QUEUED, FetchState.FETCHING)


def network_of(
    snapshot: Snapshot, deadlines_s: Mapping[str, float], rates: Rates | None = None
) -> Network:
    """All that the snapshot knows. `deadlines_s`: of starts, by endpoint, in monotonic seconds."""
    rates = rates or KnownRates()
    found = {id_: node_flows(snapshot, id_, deadlines_s, rates) for id_ in snapshot.devices}
    empty = Network.without_nodes(sorted(snapshot.devices), rates.egress_bytes_per_s)
    return empty.changed(found)


def node_flows(
    snapshot: Snapshot, node_id: str, deadlines_s: Mapping[str, float], rates: Rates
) -> NodeFlows | None:
    """None while its fetcher was not heard."""
    heard = snapshot.observed.fetchers.get(node_id)
    if heard is None:
        return None
    owners = {worker.fetch_id or "": worker for worker in _workers(snapshot, node_id)}
    running = (fetch for fetch in heard.heartbeat.fetches if fetch.state in _IS_RUNNING)
    left_bytes = {fetch.fetch_id: _left_bytes(fetch) for fetch in running}
    unreported = owners.keys() - heard.fetches.keys()
    left_bytes.update((id_, None) for id_ in sorted(unreported) if _waits(owners[id_]))
    targets = _consolidating(snapshot, node_id)
    unheard = targets.keys() - heard.fetches.keys()
    flows = [
        _flow(snapshot, node_id, fetch_id, left, owners.get(fetch_id), deadlines_s)
        for fetch_id, left in left_bytes.items()
    ]
    flows += [_rest(snapshot, targets[id_], id_) for id_ in sorted(unheard)]
    nic_bytes_per_s = rates.nic_bytes_per_s(node_id, heard.heartbeat.nic_bytes_per_s)
    return NodeFlows(nic_bytes_per_s, tuple(flow for flow in flows if flow.remaining_bytes > 0))


def awaited(snapshot: Snapshot, node_id: str) -> list[Worker]:
    """Whose starts there wait for a fetch."""
    return [worker for worker in _workers(snapshot, node_id) if _waits(worker)]


def is_reported(snapshot: Snapshot, worker: Worker) -> bool:
    """Whether its fetcher has told how large its fetch is."""
    fetch = snapshot.observed.fetch(worker)
    return fetch is not None and _left_bytes(fetch) is not None


def _workers(snapshot: Snapshot, node_id: str) -> Iterable[Worker]:
    """Whose start waits, or has waited, for a fetch there."""
    for endpoint in snapshot.endpoints.by("node", node_id):
        for worker in endpoint.workers:
            if worker.node_id == node_id and worker.fetch_id is not None:
                yield worker


def _consolidating(snapshot: Snapshot, node_id: str) -> dict[str, Worker]:
    """Entries there that fetch what they lack of their models, by fetch."""
    return {
        worker.consolidation.fetch_id: worker
        for endpoint in snapshot.endpoints.by("node", node_id)
        for worker in endpoint.workers
        if worker.node_id == node_id and worker.consolidation is not None
    }


def _rest(snapshot: Snapshot, worker: Worker, fetch_id: str) -> Flow:
    """Of a consolidation that its node has not spoken of yet."""
    assert worker.consolidation is not None, "it has a target"
    lacking = worker.consolidation.unit_digests
    left_bytes = _missing_bytes(snapshot, worker, lacking)
    return Flow(fetch_id, worker.node_id, FetchClass.BACKGROUND, left_bytes)


def _waits(worker: Worker) -> bool:
    return worker.is_desired and worker.state in _BEFORE_READY


def _left_bytes(fetch: FetchObserved) -> int | None:
    """None while it waits for room in the host cache: its size was not told yet."""
    return fetch.bytes_total - fetch.bytes_done if fetch.bytes_total else None


def _flow(
    snapshot: Snapshot,
    node_id: str,
    fetch_id: str,
    left_bytes: int | None,
    worker: Worker | None,
    deadlines_s: Mapping[str, float],
) -> Flow:
    """Interactive if it is of a start that somebody waits for, or has waited for: then it has no
    deadline any more, and takes its share until its node has let it go."""
    if worker is None:
        return Flow(fetch_id, node_id, FetchClass.BACKGROUND, left_bytes or 0)
    if left_bytes is None:
        left_bytes = _missing_bytes(snapshot, worker, worker.unit_digests)
    deadline_s = deadlines_s.get(worker.endpoint_id) if _waits(worker) else None
    endpoint = snapshot.endpoints.get(worker.endpoint_id)
    if endpoint is not None and endpoint.purpose is not StartPurpose.REQUEST:
        return Flow(fetch_id, node_id, FetchClass.BACKGROUND, left_bytes)
    return Flow(fetch_id, node_id, FetchClass.INTERACTIVE, left_bytes, deadline_s)


def held_of(snapshot: Snapshot, manifest_digest: str, node_id: str) -> frozenset[str] | None:
    """Units of the manifest in the node's host cache; None where nothing is known of them."""
    held = None if snapshot.cached is None else snapshot.cached.of(manifest_digest)
    return None if held is None else held.get(node_id)


def _missing_bytes(snapshot: Snapshot, worker: Worker, unit_digests: Iterable[str]) -> int:
    """Of these weights, in the node's host cache, as far as is known; at most what it may hold."""
    summary = snapshot.summaries.get(worker.manifest_digest)
    if summary is None:
        return worker.device_bytes
    cached = held_of(snapshot, worker.manifest_digest, worker.node_id) or frozenset()
    missing = frozenset(unit_digests) - cached
    return sum(unit.size_bytes for unit in summary.units if unit.digest in missing)
