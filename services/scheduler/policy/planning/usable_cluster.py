"""The cluster as the planner may use it: nodes heard lately, without workers unknown to rows."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from libs.common.states import FetchState, WorkerState
from services.scheduler.policy.cluster import CachePin, Cluster, Device, Node, Worker
from services.scheduler.policy.observed import Observed
from services.scheduler.policy.planning.memory import file_bytes
from services.scheduler.policy.snapshot import Snapshot

_BEFORE_READY = (WorkerState.PLANNED, WorkerState.LAUNCHING, WorkerState.REGISTERED)
_IS_RUNNING = (FetchState.QUEUED, FetchState.FETCHING)


@dataclass(frozen=True)
class _Made:
    """A node's value and what it was made of, compared by identity."""

    inputs: tuple[object, ...]
    node: Node
    has_orphan_workers: bool


@dataclass
class NodeMemo:
    """Node values made for earlier snapshots: of a thousand nodes few change between two rounds."""

    broken: dict[str, str] = field(default_factory=dict)  # nodes of the last cluster, with errors
    _made: dict[str, _Made] = field(default_factory=dict)

    def cluster(self, snapshot: Snapshot) -> Cluster:
        """A node of which no sense can be made is left out, and named in `broken`."""
        self.broken.clear()
        found = (self._usable(snapshot, node_id) for node_id in sorted(snapshot.devices))
        return Cluster(tuple(node for node in found if node is not None))

    def _usable(self, snapshot: Snapshot, node_id: str) -> Node | None:
        try:
            if not _may_be_used(snapshot, node_id):
                return None
            made = self._of(snapshot, node_id)
        except Exception as exc:  # whatever it is: it is this node's
            self.broken[node_id] = repr(exc)
            return None
        return None if made.has_orphan_workers else made.node

    def _of(self, snapshot: Snapshot, node_id: str) -> _Made:
        workers = tuple(
            worker
            for endpoint in snapshot.endpoints.by("node", node_id)
            for worker in endpoint.workers
            if worker.node_id == node_id
        )
        observed = snapshot.observed
        inputs = (
            observed.agents.get(node_id),
            observed.fetchers.get(node_id),
            snapshot.devices[node_id],
            *workers,
        )
        known = self._made.get(node_id)
        if known is not None and len(known.inputs) == len(inputs):
            if all(a is b for a, b in zip(known.inputs, inputs, strict=True)):
                return known
        made = _Made(
            inputs, _node(snapshot, node_id, workers), _has_orphan_workers(snapshot, node_id)
        )
        self._made[node_id] = made
        return made


def usable_cluster(snapshot: Snapshot, memo: NodeMemo | None = None) -> Cluster:
    return (memo or NodeMemo()).cluster(snapshot)


def base_node(observed: Observed, node_id: str, devices: tuple[Device, ...]) -> Node:
    """As its own words have it."""
    heartbeat, agent = observed.fetchers[node_id].heartbeat, observed.agents.get(node_id)
    return Node(
        id=node_id,
        devices=devices,
        nic_bytes_per_s=heartbeat.nic_bytes_per_s,
        num_fetches=sum(fetch.state in _IS_RUNNING for fetch in heartbeat.fetches),
        cache_bytes=heartbeat.cache_capacity_bytes,
        num_standbys=agent.heartbeat.num_standbys if agent is not None else 0,
    )


def by_node(devices: Iterable[Device]) -> dict[str, tuple[Device, ...]]:
    found: defaultdict[str, list[Device]] = defaultdict(list)
    for device in devices:
        found[device.node_id].append(device)
    return {node_id: tuple(own) for node_id, own in found.items()}


def _may_be_used(snapshot: Snapshot, node_id: str) -> bool:
    if node_id not in snapshot.nodes or not snapshot.devices[node_id]:
        return False
    stale_s = snapshot.limits.node_stale_s
    if not snapshot.observed.is_fresh(node_id, stale_s):
        return False
    report = snapshot.report_of(node_id)
    return not (report.is_lost or report.has_rebooted)


def _has_orphan_workers(snapshot: Snapshot, node_id: str) -> bool:
    """Workers that count as dead but still run there use memory that no reservation shows."""
    known = {
        worker.id
        for endpoint in snapshot.endpoints.by("node", node_id)
        for worker in endpoint.workers
    }
    workers = snapshot.observed.agents[node_id].heartbeat.workers
    return any(not w.state.is_finished and w.worker_id not in known for w in workers)


def _node(snapshot: Snapshot, node_id: str, workers: tuple[Worker, ...]) -> Node:
    observed = snapshot.observed
    node = base_node(observed, node_id, _reserved(snapshot.devices[node_id], workers))
    # Told to start, and not yet spoken of by their node.
    starting = [w for w in workers if w.is_desired and w.state in _BEFORE_READY]
    num_fetches = sum(observed.fetch(worker) is None for worker in starting)
    num_launches = sum(observed.worker(worker) is None for worker in starting)
    return replace(
        node,
        cache_pins=tuple(_cache_pin(snapshot, worker) for worker in workers),
        num_fetches=node.num_fetches + num_fetches,
        num_standbys=max(0, node.num_standbys - num_launches),  # each may take one
    )


def _reserved(devices: tuple[Device, ...], workers: Iterable[Worker]) -> tuple[Device, ...]:
    taken: defaultdict[int, int] = defaultdict(int)
    for worker in workers:
        taken[worker.device_index] += worker.device_bytes
    return tuple(
        replace(device, reserved_bytes=taken[device.index]) if device.index in taken else device
        for device in devices
    )


def _cache_pin(snapshot: Snapshot, worker: Worker) -> CachePin:
    summary = snapshot.summaries.get(worker.manifest_digest)
    sizes = {unit.digest: file_bytes(unit) for unit in summary.units} if summary else {}
    return CachePin(worker.id, {digest: sizes.get(digest, 0) for digest in worker.unit_digests})
