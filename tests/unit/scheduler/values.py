"""Short ways to the scheduler's values."""

from typing import Any

from libs.common.bus.messages import (
    AgentHeartbeat,
    FetchObserved,
    ModelSummary,
    UnitSummary,
    WorkerObserved,
)
from libs.common.states import EndpointState, FetchState, ModelState, WorkerState
from services.scheduler.policy.cluster import (
    Cluster,
    Deployable,
    Device,
    Endpoint,
    Model,
    Node,
    Worker,
)
from services.scheduler.policy.diagnosis import NodeReport

DIGEST = "0" * 64


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
        "backoff_remaining_s": None,
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


def deployable(model_: Model | None = None, summary_: ModelSummary | None = None) -> Deployable:
    return Deployable(model_ or model(), DIGEST, summary_ or summary())


def device(
    node_id: str, *, memory: int, reserved: int = 0, index: int = 0, cores: int = 4
) -> Device:
    return Device(node_id, index, memory, reserved, cores)


def node(
    *devices: Device,
    nic: int = 1000,
    num_fetches: int = 0,
    cached: frozenset[str] = frozenset(),
    num_standbys: int = 0,
) -> Node:
    node_id = devices[0].node_id
    return Node(node_id, devices, nic, num_fetches, cached, num_standbys=num_standbys)


def cluster(*nodes: Node) -> Cluster:
    return Cluster(nodes)


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


def endpoint(**changes: Any) -> Endpoint:
    values: dict[str, Any] = {
        "id": "endpoint-1",
        "model_id": "model-1",
        "epoch": 1,
        "state": EndpointState.STANDALONE,
        "max_slots": 4,
        "num_stages": 1,
        "cold_start_id": "start-1",
        "has_been_ready": True,
        "idle_s": None,
        "num_assigned": 0,
        "workers": (worker(),),
    }
    return Endpoint(**{**values, **changes})


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


def agent_heartbeat(boot_id: str, sequence: int, *workers: WorkerObserved) -> AgentHeartbeat:
    return AgentHeartbeat(
        node_id="node-1",
        boot_id=boot_id,
        sequence=sequence,
        accepted_version=1,
        devices=(),
        workers=workers,
    )
