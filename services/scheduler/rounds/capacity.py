"""The cluster as the planner may use it: only nodes that were heard lately and hold no strays."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from libs.common.states import FetchState, WorkerState
from services.scheduler.observation.observed import Observed
from services.scheduler.policy.cluster import Cluster, Device, Endpoint, Holding, Node, Worker
from services.scheduler.rounds.round import Round

_BEFORE_READY = (WorkerState.PLANNED, WorkerState.LAUNCHING, WorkerState.REGISTERED)


def usable_cluster(
    round_: Round,
    devices: tuple[Device, ...],
    fleet: tuple[Endpoint, ...],
    holdings: Mapping[str, tuple[Holding, ...]],
) -> Cluster:
    """`holdings` are those of each node."""
    workers = [worker for endpoint in fleet for worker in endpoint.workers]
    known = {worker.id for worker in workers}
    observed = round_.observed
    fetches = _unheard_per_node(
        workers, lambda w: observed.fetch(w.node_id, w.fetch_id) is not None
    )
    # Each may take a standby.
    launches = _unheard_per_node(workers, lambda w: observed.worker(w.node_id, w.id) is not None)
    usable = (
        _node(observed, node_id, own)
        for node_id, own in _by_node(devices)
        if _is_usable(round_, node_id, known)
    )
    return Cluster(
        tuple(
            replace(
                node,
                holdings=holdings.get(node.id, ()),
                num_fetches=node.num_fetches + fetches[node.id],
                num_standbys=max(0, node.num_standbys - launches[node.id]),
            )
            for node in usable
        )
    )


def _unheard_per_node(
    workers: Iterable[Worker], is_heard: Callable[[Worker], bool]
) -> Counter[str]:
    """Of those that are to start, and that their node has not spoken of yet."""
    return Counter(
        worker.node_id
        for worker in workers
        if worker.is_desired and worker.state in _BEFORE_READY and not is_heard(worker)
    )


def idle_cluster(observed: Observed, devices: tuple[Device, ...]) -> Cluster:
    """As if nothing ran on any node that was ever heard: no start can have more than that."""
    free = [replace(device, reserved_bytes=0) for device in devices]
    return Cluster(
        tuple(
            replace(_node(observed, node_id, own), num_fetches=0)
            for node_id, own in _by_node(free)
            if observed.fetchers.of(node_id) is not None
        )
    )


def _by_node(devices: Iterable[Device]) -> list[tuple[str, tuple[Device, ...]]]:
    found: defaultdict[str, list[Device]] = defaultdict(list)
    for device in devices:
        found[device.node_id].append(device)
    return [(node_id, tuple(found[node_id])) for node_id in sorted(found)]


def _is_usable(round_: Round, node_id: str, known_workers: set[str]) -> bool:
    observed, stale_s = round_.observed, round_.timing.node_stale_s
    report = round_.report_of(node_id)
    agent = observed.agents.of(node_id)
    is_fresh = observed.agents.is_fresh(node_id, round_.now_s, stale_s) and (
        observed.fetchers.is_fresh(node_id, round_.now_s, stale_s)
    )
    if agent is None or not is_fresh or report.is_lost or report.has_rebooted:
        return False
    # Workers that count as dead but still run there use memory that no reservation shows.
    strays = [w for w in agent.heartbeat.workers if not w.state.is_finished]
    return all(worker.worker_id in known_workers for worker in strays)


def _node(observed: Observed, node_id: str, devices: tuple[Device, ...]) -> Node:
    heard = observed.fetchers.of(node_id)
    assert heard is not None, "a usable node's fetcher was heard"
    heartbeat, agent = heard.heartbeat, observed.agents.of(node_id)
    is_running = (FetchState.QUEUED, FetchState.FETCHING)
    return Node(
        id=node_id,
        devices=devices,
        nic_bytes_per_s=heartbeat.nic_bytes_per_s,
        num_fetches=sum(fetch.state in is_running for fetch in heartbeat.fetches),
        cached_units=frozenset(heartbeat.cached_units),
        cache_bytes=heartbeat.cache_capacity_bytes,
        num_standbys=agent.heartbeat.num_standbys if agent is not None else 0,
    )
