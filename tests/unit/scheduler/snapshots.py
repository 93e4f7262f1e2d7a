"""Snapshots of small clusters for tests of decisions."""

from dataclasses import dataclass, field, replace
from typing import Any

from libs.common.bus.messages import (
    AgentHeartbeat,
    DeviceObserved,
    FetcherHeartbeat,
    FetchObserved,
    GatewayHeartbeat,
    ModelSummary,
    WorkerObserved,
)
from libs.common.states import FetchState, ModelState, WorkerState
from services.scheduler.policy.cluster import (
    Device,
    DeviceSize,
    Endpoint,
    Model,
    NodeRecord,
    OpenRequest,
)
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.liveness import Liveness, agent_of, fetcher_of, gateway_of
from services.scheduler.policy.observed import Heard, Observed
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.policy.tables.snapshot_tables import endpoint_table, request_table
from tests.unit.scheduler.values import cache_report

NOW_S = 1000.0
GATEWAY = "gateway-1"


def a_model(name: str, **changes: Any) -> Model:
    """READY, with a manifest of its own (see `a_summary`)."""
    values: dict[str, Any] = {
        "id": name,
        "tenant": "tenant-1",
        "name": name,
        "state": ModelState.READY,
        "cause": None,
        "keep_alive_s": 60.0,
        "max_pipeline_size": 1,
        "max_queue": 100,
        "max_slots": 2,
        "max_endpoints": 1,
        "max_context_tokens": None,
        "kv_cache_bytes": 100,
        "manifest_digest": f"manifest of {name}",
        "num_failed_starts": 0,
        "backoff_until_s": None,
    }
    return Model(**{**values, **changes})


def a_request(name: str, model_id: str, **changes: Any) -> OpenRequest:
    """Queued for a second."""
    values: dict[str, Any] = {
        "id": name,
        "model_id": model_id,
        "gateway_id": GATEWAY,
        "attempt": 1,
        "num_engine_crashes": 0,
        "num_node_losses": 0,
        "endpoint_id": None,
        "arrived_at_s": NOW_S - 1.0,
        "deadline_at_s": NOW_S + 600.0,
    }
    return OpenRequest(**{**values, **changes})


@dataclass
class SmallCluster:
    """Collects what a snapshot is made of; everybody was heard a moment ago."""

    now_s: float = NOW_S
    limits: Limits = field(default_factory=Limits)
    models: dict[str, Model] = field(default_factory=dict)
    summaries: dict[str, ModelSummary] = field(default_factory=dict)
    requests: dict[str, OpenRequest] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    records: dict[str, NodeRecord] = field(default_factory=dict)
    devices: dict[str, tuple[Device, ...]] = field(default_factory=dict)
    agents: dict[str, AgentHeartbeat] = field(default_factory=dict)
    fetchers: dict[str, FetcherHeartbeat] = field(default_factory=dict)
    silence_s: dict[str, float] = field(default_factory=dict)  # by speaker
    listed: set[str] = field(default_factory=set)

    def add_node(self, node_id: str, memory_bytes: int = 1000, **heard: Any) -> None:
        self.records[node_id] = NodeRecord(node_id, 1, f"boot-{node_id}")
        self.devices[node_id] = (Device(node_id, 0, memory_bytes, 0, 2),)
        said: dict[str, Any] = {
            "node_id": node_id,
            "boot_id": f"boot-{node_id}",
            "sequence": 1,
            "accepted_version": 1,
        }
        device = DeviceObserved(index=0, kind="cpu", memory_bytes=memory_bytes, cores=2)
        self.agents[node_id] = AgentHeartbeat(**said, devices=(device,), workers=())
        self.fetchers[node_id] = FetcherHeartbeat(
            **said,
            nic_bytes_per_s=heard.get("nic_bytes_per_s", 100),
            measured_bytes_per_s=None,
            cache_capacity_bytes=heard.get("cache_capacity_bytes", 10**9),
            cache_max_bytes=10**9,
            cache_used_bytes=0,
            host_cache=cache_report(),
            fetches=(),
        )

    def add_model(self, model: Model, summary: ModelSummary) -> Model:
        self.models[model.id] = model
        if model.manifest_digest is not None:
            self.summaries[model.manifest_digest] = summary
        return model

    def add_request(self, request: OpenRequest) -> None:
        self.requests[request.id] = request
        self.listed.add(request.id)

    def hear_worker(self, node_id: str, worker: WorkerObserved) -> None:
        """Its agent says this of it; the last word counts."""
        beat = self.agents[node_id]
        others = tuple(w for w in beat.workers if w.worker_id != worker.worker_id)
        self.agents[node_id] = beat.model_copy(update={"workers": (*others, worker)})

    def hear_fetch(self, node_id: str, fetch: FetchObserved) -> None:
        beat = self.fetchers[node_id]
        others = tuple(f for f in beat.fetches if f.fetch_id != fetch.fetch_id)
        self.fetchers[node_id] = beat.model_copy(update={"fetches": (*others, fetch)})

    def follow(self, snapshot: Snapshot) -> None:
        """Its endpoints, requests and models, as decisions have left them."""
        self.endpoints = dict(snapshot.endpoints.rows)
        self.requests = dict(snapshot.requests.rows)
        self.models = dict(snapshot.models)

    def hear_ready(self, endpoint: Endpoint, **changes: Any) -> None:
        """All its workers have their weights and are ready."""
        for worker in endpoint.workers:
            assert worker.fetch_id is not None
            seen = WorkerObserved(
                worker_id=worker.id,
                endpoint_id=endpoint.id,
                state=WorkerState.READY,
                address=f"tcp://{worker.node_id}:1",
                public_key="k" * 40,
            ).model_copy(update=changes)
            self.hear_worker(worker.node_id, seen)
            fetch = FetchObserved(
                fetch_id=worker.fetch_id,
                state=FetchState.COMPLETE,
                bytes_done=100,
                bytes_total=100,
            )
            self.hear_fetch(worker.node_id, fetch)

    def snapshot(self, **changes: Any) -> Snapshot:
        elapsed_s = 100.0
        speakers = [agent_of(id_) for id_ in self.agents]
        speakers += [fetcher_of(id_) for id_ in self.fetchers]
        speakers.append(gateway_of(GATEWAY))
        heard_s = {who: elapsed_s - self.silence_s.get(who, 0.0) for who in speakers}
        gateway = GatewayHeartbeat(gateway_id=GATEWAY, request_ids=tuple(sorted(self.listed)))
        made = Snapshot(
            now_s=self.now_s,
            limits=self.limits,
            nonce="a round",
            observed=Observed(
                Liveness(elapsed_s, heard_s),
                {id_: Heard(beat, self.now_s) for id_, beat in self.agents.items()},
                {id_: Heard(beat, self.now_s) for id_, beat in self.fetchers.items()},
                {GATEWAY: gateway},
            ),
            models=self.models,
            summaries=self.summaries,
            nodes=self.records,
            devices=self.devices,
            sizes=tuple(
                DeviceSize(d.node_id, d.index, d.memory_bytes, 10**9, 100)
                for devices in self.devices.values()
                for d in devices
            ),
            endpoints=endpoint_table(self.endpoints),
            requests=request_table(self.requests),
        )
        return replace(made, **changes)
