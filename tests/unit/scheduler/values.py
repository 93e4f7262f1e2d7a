"""Short ways to the scheduler's values."""

from collections.abc import Iterable, Mapping
from typing import Any

from libs.common.bus.messages import (
    AgentHeartbeat,
    FetcherHeartbeat,
    FetchObserved,
    GatewayHeartbeat,
    HostCacheReport,
    ModelSummary,
    UnitSummary,
    WorkerObserved,
)
from libs.common.states import (
    EndpointState,
    FetchState,
    MemberMemory,
    MemberRole,
    ModelState,
    WorkerState,
)
from services.scheduler.policy.cluster import (
    Deployable,
    Device,
    DeviceSize,
    Endpoint,
    Member,
    Model,
    NodeRecord,
    OpenRequest,
    Worker,
)
from services.scheduler.policy.failures.diagnosis import NodeReport
from services.scheduler.policy.liveness import Liveness, agent_of, fetcher_of, gateway_of
from services.scheduler.policy.nodes.cluster import Cluster
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.observed import Heard, Observed
from services.scheduler.policy.planning.usable_cluster import by_node
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.policy.tables.snapshot_tables import endpoint_table, request_table

DIGEST = "0" * 64
NOW_S = 1000.0


def model(**changes: Any) -> Model:
    values: dict[str, Any] = {
        "id": "model-1",
        "tenant": "tenant-1",
        "name": "tiny",
        "state": ModelState.READY,
        "cause": None,
        "keep_alive_s": 60.0,
        "max_pipeline_size": 1,
        "max_queue": 10,
        "max_slots": 4,
        "max_endpoints": 1,
        "max_context_tokens": None,
        "kv_cache_bytes": None,
        "manifest_digest": DIGEST,
        "num_failed_starts": 0,
        "backoff_until_s": None,
    }
    return Model(**{**values, **changes})


def unit_digest(index: int) -> str:
    return f"{index:064x}"


def summary(*, unit_sizes: tuple[int, ...] = (100, 200, 200, 10), **changes: Any) -> ModelSummary:
    """Embedding, layers, final norm."""
    last = len(unit_sizes) - 1
    units = tuple(
        UnitSummary(
            kind="embedding" if i == 0 else "final_norm" if i == last else "layer",
            layer=i - 1 if 0 < i < last else None,
            digest=unit_digest(i),
            size_bytes=size,
        )
        for i, size in enumerate(unit_sizes)
    )
    values: dict[str, Any] = {
        "architecture": "LlamaForCausalLM",
        "dtype": "BF16",
        "num_layers": last - 1,
        "vocab_size": 10,
        "max_context_tokens": 1024,
        "kv_bytes_per_token": 1,
        "weight_bytes": sum(unit_sizes),
        "eos_token_ids": (2,),
        "units": units,
        "tokenizer_files": {},
    }
    return ModelSummary(**{**values, **changes})


def deployable(
    model_: Model | None = None,
    summary_: ModelSummary | None = None,
    cached: Mapping[str, Iterable[str]] | None = None,
) -> Deployable:
    """`cached`: by node, which units its host cache holds."""
    held = {node_id: frozenset(digests) for node_id, digests in (cached or {}).items() if digests}
    return Deployable(model_ or model(), DIGEST, summary_ or summary(), held)


def device(
    node_id: str,
    *,
    memory: int,
    reserved: int = 0,
    index: int = 0,
    cores: int = 4,
    worker_bytes: int = 0,
) -> Device:
    return Device(node_id, index, memory, reserved, cores, worker_bytes)


def node(
    *devices: Device,
    nic: int = 1000,
    num_fetches: int = 0,
    num_standbys: int = 0,
) -> Node:
    node_id = devices[0].node_id
    return Node(node_id, devices, nic, num_fetches, num_standbys=num_standbys)


def cluster(*nodes: Node) -> Cluster:
    return Cluster.of(nodes)


def worker(**changes: Any) -> Worker:
    values: dict[str, Any] = {
        "id": "worker-1",
        "endpoint_id": "endpoint-1",
        "node_id": "node-1",
        "device_index": 0,
        "device_bytes": 100,
        "stage_index": 0,
        "state": WorkerState.READY,
        "is_desired": True,
        "public_key": None,
    }
    return Worker(**{**values, **changes})


def member(worker_: Worker, stage_index: int = 0, *, is_alone: bool = True) -> Member:
    return Member(
        worker_id=worker_.id,
        role=MemberRole.ENTRY if stage_index == 0 else MemberRole.FOLLOWER,
        stage_index=stage_index,
        first_layer=stage_index,
        last_layer=stage_index + 1,
        memory=MemberMemory.FULL if is_alone else MemberMemory.LOW,
    )


def endpoint(**changes: Any) -> Endpoint:
    """Each worker is a member, the first one the entry."""
    workers: tuple[Worker, ...] = changes.get("workers", (worker(),))
    is_alone = len(workers) == 1
    values: dict[str, Any] = {
        "id": "endpoint-1",
        "tenant": "tenant-1",
        "model_id": "model-1",
        "epoch": 1,
        "state": EndpointState.STANDALONE,
        "max_slots": 4,
        "cold_start_id": "start-1",
        "has_been_ready": True,
        "idle_since_s": None,
        "generation": 1,
        "members": tuple(member(w, i, is_alone=is_alone) for i, w in enumerate(workers)),
        "workers": workers,
    }
    return Endpoint(**{**values, **changes})


def open_request(**changes: Any) -> OpenRequest:
    values: dict[str, Any] = {
        "id": "request-1",
        "model_id": "model-1",
        "gateway_id": "gateway-1",
        "attempt": 1,
        "num_engine_crashes": 0,
        "num_node_losses": 0,
        "endpoint_id": None,
        "arrived_at_s": NOW_S - 1,
        "deadline_at_s": NOW_S + 60,
    }
    return OpenRequest(**{**values, **changes})


def report(**changes: Any) -> NodeReport:
    values: dict[str, Any] = {
        "node_id": "node-1",
        "is_lost": False,
        "has_rebooted": False,
        "has_accepted": True,
        "is_heard": True,
    }
    return NodeReport(**{**values, **changes})


def observed(state: WorkerState, **changes: Any) -> WorkerObserved:
    values = {"worker_id": "worker-1", "endpoint_id": "endpoint-1", "state": state}
    return WorkerObserved.model_validate({**values, **changes})


def fetch(state: FetchState, **changes: Any) -> FetchObserved:
    return FetchObserved.model_validate({"fetch_id": "worker-1", "state": state, **changes})


def agent_heartbeat(
    boot_id: str, sequence: int, *workers: WorkerObserved, **changes: Any
) -> AgentHeartbeat:
    values: dict[str, Any] = {
        "node_id": "node-1",
        "boot_id": boot_id,
        "sequence": sequence,
        "accepted_version": 1,
        "devices": (),
        "workers": workers,
    }
    return AgentHeartbeat(**{**values, **changes})


def cache_report(**changes: Any) -> HostCacheReport:
    """Of an empty host cache."""
    values = {"version": 0, "since_version": 0, "num_units": 0, "set_digest": "0" * 32}
    return HostCacheReport(**{**values, **changes})


def fetcher_heartbeat(*fetches: FetchObserved, **changes: Any) -> FetcherHeartbeat:
    values: dict[str, Any] = {
        "node_id": "node-1",
        "boot_id": "boot-f",
        "sequence": 1,
        "accepted_version": 1,
        "nic_bytes_per_s": 1000,
        "measured_bytes_per_s": None,
        "cache_capacity_bytes": 10**9,
        "cache_used_bytes": 0,
        "host_cache": cache_report(),
        "fetches": fetches,
    }
    return FetcherHeartbeat(**{**values, **changes})


def heard_now(
    agents: Iterable[AgentHeartbeat] = (),
    fetchers: Iterable[FetcherHeartbeat] = (),
    gateways: Iterable[GatewayHeartbeat] = (),
    *,
    now_s: float = NOW_S,
) -> Observed:
    """All of them speak at this moment, and whoever else there is has had the time to."""
    said_a = {beat.node_id: Heard(beat, now_s) for beat in agents}
    said_f = {beat.node_id: Heard(beat, now_s) for beat in fetchers}
    said_g = {beat.gateway_id: beat for beat in gateways}
    speakers = (*map(agent_of, said_a), *map(fetcher_of, said_f), *map(gateway_of, said_g))
    liveness = Liveness(NOW_S, dict.fromkeys(speakers, NOW_S))
    return Observed(liveness, said_a, said_f, said_g)


def snapshot(
    *,
    now_s: float = NOW_S,
    devices: Iterable[Device] = (),
    workers: Mapping[str, tuple[WorkerObserved, ...]] | None = None,
    fetches: Mapping[str, tuple[FetchObserved, ...]] | None = None,
    num_standbys: int = 0,
    endpoints: Iterable[Endpoint] = (),
    requests: Iterable[OpenRequest] = (),
    models: Iterable[Model] = (model(),),
    **changes: Any,
) -> Snapshot:
    """Nodes are those of the devices and of `workers` and `fetches`, which each says that it has;
    all nodes, and the gateways of all requests, have just been heard."""
    placed, open_, seen = by_node(devices), {r.id: r for r in requests}, workers or {}
    fetched = fetches or {}
    node_ids = sorted({*placed, *seen, *fetched})
    listed = {r.gateway_id: tuple(open_) for r in open_.values()}
    agents = (
        agent_heartbeat("boot-a", 1, *seen.get(id_, ()), node_id=id_, num_standbys=num_standbys)
        for id_ in node_ids
    )
    fetchers = (fetcher_heartbeat(*fetched.get(id_, ()), node_id=id_) for id_ in node_ids)
    gateways = (GatewayHeartbeat(gateway_id=id_, request_ids=ids) for id_, ids in listed.items())
    values: dict[str, Any] = {
        "nonce": "round-1",
        "observed": heard_now(agents, fetchers, gateways, now_s=now_s),
        "models": {model_.id: model_ for model_ in models},
        "summaries": {DIGEST: summary()},
        "nodes": {id_: NodeRecord(id_, 1, "boot-a") for id_ in node_ids},
        "devices": placed,
        "sizes": tuple(
            DeviceSize(device_.node_id, device_.index, device_.memory_bytes)
            for own in placed.values()
            for device_ in own
        ),
        "endpoints": endpoint_table({endpoint_.id: endpoint_ for endpoint_ in endpoints}),
        "requests": request_table(open_),
    }
    return Snapshot(now_s, **{**values, **changes})
