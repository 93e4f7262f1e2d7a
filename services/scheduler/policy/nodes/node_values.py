"""A node's value, and what it is made of. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from libs.common.bus.messages import AgentHeartbeat, FetcherHeartbeat, FetchObserved
from libs.common.states import FetchState, StartPurpose, WorkerState
from services.scheduler.policy.cluster import Device, Endpoint, Worker
from services.scheduler.policy.network.known_rates import nic_rate_bytes_per_s
from services.scheduler.policy.nodes.node import CachePin, Node
from services.scheduler.policy.observed import Heard, Observed
from services.scheduler.policy.planning.memory import file_bytes
from services.scheduler.policy.prediction.figures import NodeFigures
from services.scheduler.policy.snapshot import Snapshot

_BEFORE_READY = (WorkerState.PLANNED, WorkerState.LAUNCHING, WorkerState.REGISTERED)
_IS_RUNNING = (FetchState.QUEUED, FetchState.FETCHING)


@dataclass(frozen=True)
class NodeInputs:
    """All that the value depends on but the summaries of manifests. A heartbeat that says the same
    as the one before is the same."""

    agent: Heard[AgentHeartbeat] = field(compare=False)
    fetcher: Heard[FetcherHeartbeat] = field(compare=False)
    agent_facts: object
    fetcher_facts: object
    node_id: str
    agent_boot_id: str | None  # whose workers the rows are about
    devices: tuple[Device, ...]
    workers: tuple[Worker, ...]  # that may hold memory there
    endpoint_workers: tuple[str, ...]  # ids of all workers of their endpoints
    background_fetches: tuple[str, ...]  # of starts that nobody waits for
    figures: NodeFigures = field(compare=False)

    @classmethod
    def of(
        cls, snapshot: Snapshot, node_id: str, before: "NodeInputs | None"
    ) -> "NodeInputs | None":
        """None while it is not known, or not heard. `before` saves work."""
        observed, record = snapshot.observed, snapshot.nodes.get(node_id)
        agent, fetcher = observed.agents.get(node_id), observed.fetchers.get(node_id)
        if record is None or agent is None or fetcher is None:
            return None
        endpoints = snapshot.endpoints.by("node", node_id)
        workers = [worker for endpoint in endpoints for worker in endpoint.workers]
        said_a = before.agent_facts if before is not None and before.agent is agent else None
        said_f = before.fetcher_facts if before is not None and before.fetcher is fetcher else None
        return cls(
            agent,
            fetcher,
            said_a or _agent_facts(agent.heartbeat),
            said_f or _fetcher_facts(fetcher.heartbeat),
            node_id,
            record.agent_boot_id,
            snapshot.devices[node_id],
            tuple(worker for worker in workers if worker.node_id == node_id),
            tuple(worker.id for worker in workers),
            tuple(_background(endpoints)),
            snapshot.measured.of_node(node_id),
        )

    def says_the_same(self, before: "NodeInputs") -> bool:
        """Figures are another object once anything new was measured."""
        return self.figures is before.figures and self == before

    def has_devices_of(self, before: "NodeInputs") -> bool:
        """With the same workers, launched as fast."""
        is_same = self.figures is before.figures and self.devices is before.devices
        return is_same and self.workers == before.workers

    @property
    def has_rebooted(self) -> bool:
        """The agent that ran the workers of the rows is gone."""
        return self.agent_boot_id not in (None, self.agent.heartbeat.boot_id)

    @property
    def has_orphan_workers(self) -> bool:
        """Workers that count as dead but still run there use memory that no reservation shows."""
        workers = self.agent.heartbeat.workers
        known = set(self.endpoint_workers)
        return any(not w.state.is_finished and w.worker_id not in known for w in workers)


@dataclass(frozen=True)
class NodeValue:
    inputs: NodeInputs
    usable: Node | None  # None: nothing may be planned there
    is_settled: bool  # False: how much the host cache holds is not known yet

    @classmethod
    def of(
        cls, snapshot: Snapshot, inputs: NodeInputs, before: "NodeValue | None" = None
    ) -> "NodeValue":
        """`before` saves work."""
        digests = {worker.manifest_digest for worker in inputs.workers} - {""}
        is_settled = all(digest in snapshot.summaries for digest in digests)
        if inputs.has_rebooted or inputs.has_orphan_workers:
            return cls(inputs, None, is_settled)
        return cls(inputs, _node(snapshot, inputs, before), is_settled)


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


def _agent_facts(heartbeat: AgentHeartbeat) -> object:
    workers = tuple((w.worker_id, w.state.is_finished) for w in heartbeat.workers)
    return (heartbeat.boot_id, heartbeat.num_standbys, workers)


def _fetcher_facts(heartbeat: FetcherHeartbeat) -> object:
    fetches = tuple((fetch.fetch_id, fetch.state in _IS_RUNNING) for fetch in heartbeat.fetches)
    return (heartbeat.nic_bytes_per_s, heartbeat.cache_capacity_bytes, fetches)


def _node(snapshot: Snapshot, inputs: NodeInputs, before: NodeValue | None) -> Node:
    observed, workers, pins = snapshot.observed, inputs.workers, _known_pins(before)
    figures = inputs.figures
    node = base_node(observed, inputs.node_id, _reserved(inputs, before))
    # Told to start, and not yet spoken of by their node.
    starting = [w for w in workers if w.is_desired and w.state in _BEFORE_READY]
    waiting = [w for w in starting if w.fetch_id not in inputs.background_fetches]
    num_fetches = sum(observed.fetch(worker) is None for worker in waiting)
    asked = [w for w in workers if w.fetch_id not in inputs.background_fetches]
    num_fetches += sum(_is_running(observed.fetch(worker)) for worker in asked)
    num_launches = sum(observed.worker(worker) is None for worker in starting)
    return replace(
        node,
        nic_bytes_per_s=int(nic_rate_bytes_per_s(node.nic_bytes_per_s, figures)),
        standby_launch_s=figures.standby_launch_s,
        tail_s=figures.tail_s,
        cache_pins=tuple(_cache_pin(snapshot, worker, pins) for worker in workers),
        num_fetches=num_fetches,
        num_standbys=max(0, node.num_standbys - num_launches),  # each may take one
    )


def _background(endpoints: Iterable[Endpoint]) -> Iterator[str]:
    for endpoint in endpoints:
        if endpoint.purpose is not StartPurpose.REQUEST:
            yield from (w.fetch_id for w in endpoint.workers if w.fetch_id is not None)


def _is_running(fetch: FetchObserved | None) -> bool:
    """Of a start: a fetch without a worker is a background one, which takes nothing from others."""
    return fetch is not None and fetch.state in _IS_RUNNING


def _reserved(inputs: NodeInputs, before: NodeValue | None) -> tuple[Device, ...]:
    """With what the workers hold, and with what a launched process takes to build its model."""
    if before is not None and before.usable is not None and inputs.has_devices_of(before.inputs):
        return before.usable.devices
    taken, build_s = defaultdict[int, int](int), inputs.figures.build_s
    for worker in inputs.workers:
        taken[worker.device_index] += worker.device_bytes
    return tuple(
        replace(
            device,
            reserved_bytes=taken.get(device.index, device.reserved_bytes),
            launch_s=device.launch_s + build_s,
        )
        for device in inputs.devices
    )


def _known_pins(before: NodeValue | None) -> Mapping[str, CachePin]:
    """By worker. Of one whose manifest was not known nothing is kept."""
    if before is None or before.usable is None or not before.is_settled:
        return {}
    return {pin.worker_id: pin for pin in before.usable.cache_pins}


def _cache_pin(snapshot: Snapshot, worker: Worker, known: Mapping[str, CachePin]) -> CachePin:
    pin = known.get(worker.id)
    if pin is not None and pin.file_bytes.keys() == set(worker.held_digests):
        return pin  # what a manifest says of a unit never changes
    summary = snapshot.summaries.get(worker.manifest_digest)
    sizes = {unit.digest: file_bytes(unit) for unit in summary.units} if summary else {}
    return CachePin(worker.id, {digest: sizes.get(digest, 0) for digest in worker.held_digests})
