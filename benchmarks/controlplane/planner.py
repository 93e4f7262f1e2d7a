"""What one decision of the planner costs, whatever the cluster's size. No I/O: values only.

Each sample is what follows when one node has spoken and one request waits for a model that runs
nowhere: the new snapshot, the planner's view of the cluster brought up to date, and the round's
decision. Half of the devices are taken; each start is ended a little later, so that it stays so.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import perf_counter

from benchmarks.controlplane import catalogue
from libs.common.bus.messages import (
    AgentHeartbeat,
    DeviceObserved,
    FetcherHeartbeat,
    GatewayHeartbeat,
    HostCacheReport,
    WorkerObserved,
)
from libs.common.states import EndpointState, MemberMemory, MemberRole, ModelState, WorkerState
from services.scheduler.policy.changes import Changed
from services.scheduler.policy.cluster import (
    Device,
    Endpoint,
    Member,
    Model,
    NodeRecord,
    OpenRequest,
    Worker,
)
from services.scheduler.policy.decide import Decided, decide_round
from services.scheduler.policy.decisions import StartEndpoint
from services.scheduler.policy.liveness import Liveness, agent_of, fetcher_of, gateway_of
from services.scheduler.policy.observed import Heard, Observed
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.snapshot import Snapshot, endpoint_table

DEVICES_PER_NODE = 8
DEVICE_BYTES = 80 * 2**30
CACHE_BYTES = 2**40
NIC_BYTES_PER_S = 12_500_000_000
NUM_MODELS = 200  # that are asked for in turn
NUM_KEPT = 20  # starts, before the oldest of them is ended
GATEWAY = "gateway-0"
NOW_S = 1000.0


def decision_times_ms(
    num_nodes: int, num_samples: int, seed: int, clock: Callable[[], float] = perf_counter
) -> list[float]:
    """One for each sample, in the order in which they were taken. A thread's own time as the clock
    leaves out what a busy machine does meanwhile."""
    scene = Scene(num_nodes, random.Random(seed), clock)
    scene.decide_next()  # the first one lays out the whole cluster
    return [scene.decide_next() for _ in range(num_samples)]


@dataclass
class Scene:
    """A cluster of values, and a leader's memory between rounds."""

    num_nodes: int
    rng: random.Random
    clock: Callable[[], float]  # seconds
    memo: NodeMemo = field(default_factory=NodeMemo)
    snapshot: Snapshot = field(init=False)
    _started: deque[str] = field(default_factory=deque)
    _number: int = 0

    def __post_init__(self) -> None:
        ids = [f"node-{index:05d}" for index in range(self.num_nodes)]
        digests = [catalogue.manifest_digest(number) for number in range(NUM_MODELS)]
        endpoints = self._endpoints(ids)
        models = [_model(f"model-{i}", digest) for i, digest in enumerate(digests)]
        models += [_model(endpoint.model_id, "") for endpoint in endpoints]
        self.snapshot = Snapshot(
            now_s=NOW_S,
            observed=_observed(ids, endpoints),
            models={model.id: model for model in models},
            summaries={digest: catalogue.summary(i, {}) for i, digest in enumerate(digests)},
            nodes={id_: NodeRecord(id_, 1, "boot") for id_ in ids},
            devices={id_: tuple(_device(id_, i) for i in range(DEVICES_PER_NODE)) for id_ in ids},
            endpoints=endpoint_table({endpoint.id: endpoint for endpoint in endpoints}),
        )

    def decide_next(self) -> float:
        """Milliseconds of the next decision, which starts an endpoint."""
        self._number += 1
        request, (heard_a, heard_f) = self._request(), self._news()
        node_id, before = heard_a.heartbeat.node_id, self.snapshot.observed
        began_s = self.clock()
        observed = replace(
            before,
            agents={**before.agents, node_id: heard_a},
            fetchers={**before.fetchers, node_id: heard_f},
        )
        snapshot = self.snapshot.changed(
            observed=observed,
            nonce=f"round-{self._number}",
            requests=self.snapshot.requests.updated({request.id: request}),
        )
        changed = Changed(models=frozenset({request.model_id}), nodes=frozenset({node_id}))
        decided = decide_round(snapshot, changed, self.memo)
        took_ms = (self.clock() - began_s) * 1000
        self._follow(decided, request.id)
        return took_ms

    def _request(self) -> OpenRequest:
        return OpenRequest(
            id=f"request-{self._number}",
            model_id=f"model-{self._number % NUM_MODELS}",
            gateway_id=GATEWAY,
            attempt=1,
            num_engine_crashes=0,
            num_node_losses=0,
            endpoint_id=None,
            arrived_at_s=NOW_S - 1,
            deadline_at_s=NOW_S + 600,
        )

    def _news(self) -> tuple[Heard[AgentHeartbeat], Heard[FetcherHeartbeat]]:
        """A node's next words; what it says of its standbys and its host cache has changed."""
        node_id = f"node-{self.rng.randrange(self.num_nodes):05d}"
        free_bytes = CACHE_BYTES - self.rng.randint(0, 10**9)
        agent = self.snapshot.observed.agents[node_id].heartbeat.model_copy(
            update={"sequence": self._number + 1, "num_standbys": self.rng.randint(0, 2)}
        )
        fetcher = self.snapshot.observed.fetchers[node_id].heartbeat.model_copy(
            update={"sequence": self._number + 1, "cache_capacity_bytes": free_bytes}
        )
        return Heard(agent, NOW_S), Heard(fetcher, NOW_S)

    def _follow(self, decided: Decided, request_id: str) -> None:
        """The request is served, and a start of some time ago has ended."""
        (start,) = (x for x in decided.decisions if isinstance(x, StartEndpoint))
        self._started.append(start.endpoint_id)
        ended: dict[str, Endpoint | None] = {}
        if len(self._started) > NUM_KEPT:
            ended[self._started.popleft()] = None
        self.snapshot = decided.snapshot.changed(
            endpoints=decided.snapshot.endpoints.updated(ended),
            requests=decided.snapshot.requests.updated({request_id: None}),
        )

    def _endpoints(self, ids: list[str]) -> list[Endpoint]:
        """On half of the devices, busy, each of another model that nobody asks for here."""
        places = [(node_id, index) for node_id in ids for index in range(DEVICES_PER_NODE)]
        chosen = self.rng.sample(places, len(places) // 2)
        return [_endpoint(f"taken-{n}", *place) for n, place in enumerate(chosen)]


def _model(model_id: str, manifest_digest: str) -> Model:
    return Model(
        id=model_id,
        tenant="tenant-0",
        name=model_id,
        state=ModelState.READY,
        cause=None,
        keep_alive_s=60.0,
        max_pipeline_size=catalogue.MAX_STAGES,
        max_queue=100,
        max_slots=catalogue.MAX_SLOTS,
        max_endpoints=1,
        max_context_tokens=None,
        kv_cache_bytes=catalogue.KV_CACHE_BYTES,
        manifest_digest=manifest_digest,
        num_failed_starts=0,
        backoff_until_s=None,
    )


def _device(node_id: str, index: int) -> Device:
    return Device(node_id, index, DEVICE_BYTES, 0, 8, worker_bytes=2**30)


def _endpoint(name: str, node_id: str, index: int) -> Endpoint:
    worker = Worker(
        id=f"worker-of-{name}",
        endpoint_id=name,
        node_id=node_id,
        device_index=index,
        device_bytes=DEVICE_BYTES - 2**30,
        stage_index=0,
        state=WorkerState.READY,
        is_desired=True,
        public_key="key",
        address="tcp://somewhere",
    )
    return Endpoint(
        id=name,
        tenant="tenant-1",
        model_id=f"model-of-{name}",
        epoch=1,
        state=EndpointState.STANDALONE,
        max_slots=catalogue.MAX_SLOTS,
        cold_start_id=None,
        has_been_ready=True,
        idle_since_s=None,
        generation=1,
        members=(Member(worker.id, MemberRole.ENTRY, 0, 0, 1, MemberMemory.FULL),),
        workers=(worker,),
    )


def _observed(ids: list[str], endpoints: list[Endpoint]) -> Observed:
    workers: dict[str, list[WorkerObserved]] = {id_: [] for id_ in ids}
    for endpoint in endpoints:
        for worker in endpoint.workers:
            workers[worker.node_id].append(_seen(worker))
    agents = {id_: Heard(_agent_heartbeat(id_, own), NOW_S) for id_, own in workers.items()}
    fetchers = {id_: Heard(_fetcher_heartbeat(id_), NOW_S) for id_ in ids}
    speakers = (*map(agent_of, ids), *map(fetcher_of, ids), gateway_of(GATEWAY))
    gateways = {GATEWAY: GatewayHeartbeat(gateway_id=GATEWAY, request_ids=())}
    return Observed(Liveness(NOW_S, dict.fromkeys(speakers, NOW_S)), agents, fetchers, gateways)


def _seen(worker: Worker) -> WorkerObserved:
    return WorkerObserved(
        worker_id=worker.id,
        endpoint_id=worker.endpoint_id,
        state=worker.state,
        address=worker.address,
        public_key=worker.public_key,
        num_running=1,
    )


def _agent_heartbeat(node_id: str, workers: list[WorkerObserved]) -> AgentHeartbeat:
    devices = tuple(
        DeviceObserved(index=i, kind="cuda", memory_bytes=DEVICE_BYTES, cores=8)
        for i in range(DEVICES_PER_NODE)
    )
    return AgentHeartbeat(
        node_id=node_id,
        boot_id="boot",
        sequence=1,
        accepted_version=1,
        devices=devices,
        workers=tuple(workers),
    )


def _fetcher_heartbeat(node_id: str) -> FetcherHeartbeat:
    return FetcherHeartbeat(
        node_id=node_id,
        boot_id="boot",
        sequence=1,
        accepted_version=1,
        nic_bytes_per_s=NIC_BYTES_PER_S,
        measured_bytes_per_s=None,
        cache_capacity_bytes=CACHE_BYTES,
        cache_used_bytes=0,
        host_cache=HostCacheReport(version=0, since_version=0, num_units=0, set_digest="0" * 32),
        fetches=(),
    )
