"""Nodes, models and endpoints for measuring the planner: values as a leader has them. No I/O."""

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
from services.scheduler.policy.cluster import (
    Device,
    Endpoint,
    Member,
    Model,
    Worker,
)
from services.scheduler.policy.liveness import Liveness, agent_of, fetcher_of, gateway_of
from services.scheduler.policy.observed import Heard, Observed

DEVICES_PER_NODE = 8
DEVICE_BYTES = 80 * 2**30
CACHE_BYTES = 2**40
NIC_BYTES_PER_S = 12_500_000_000
GATEWAY = "gateway-0"
NOW_S = 1000.0


def model(model_id: str, manifest_digest: str) -> Model:
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


def device(node_id: str, index: int) -> Device:
    return Device(node_id, index, DEVICE_BYTES, 0, 8, worker_bytes=2**30)


def endpoint(name: str, node_id: str, index: int) -> Endpoint:
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


def observed(ids: list[str], endpoints: list[Endpoint]) -> Observed:
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
