"""What the commands read of the API's answers. Fields that they do not name are ignored."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from deploy.cli.usage_views import ModelUse
from libs.common.observability.criticalpath import Failure
from libs.common.observability.timeline import TimedStep


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Slo(_View):
    ttft_ms: int
    tpot_ms: int


class Prefetch(_View):
    node_id: str
    state: str
    file_bytes: int


class Model(_View):
    name: str
    source: str
    state: str
    cause: str | None
    bytes_done: int
    bytes_total: int
    architecture: str | None
    dtype: str | None
    num_layers: int | None
    weight_bytes: int | None
    slo: Slo
    keep_alive_s: float | Literal["auto"]
    min_pipeline_size: int = 1
    max_pipeline_size: int
    full_memory_workers: int | None = None
    max_queue: int
    max_slots: int
    max_endpoints: int
    min_endpoints: int = 0
    max_context_tokens: int | None
    kv_cache_bytes: int | None
    engine: str
    chat_template_digest: str | None = None
    created_at: datetime
    usage: ModelUse | None = None
    prefetches: list[Prefetch] | None = None  # the newest first


class Worker(_View):
    id: str
    node_id: str
    state: str


class Endpoint(_View):
    id: str
    model: str
    state: str
    num_stages: int
    workers: tuple[Worker, ...]


class Device(_View):
    kind: str
    memory_bytes: int
    reserved_bytes: int


class Node(_View):
    id: str
    agent_heard_at: datetime | None
    fetcher_heard_at: datetime | None
    num_standbys: int
    nic_bytes_per_s: int
    cache_capacity_bytes: int
    cache_used_bytes: int
    agent_invalid: str | None = None
    fetcher_invalid: str | None = None
    devices: tuple[Device, ...]
    workers: tuple[Worker, ...]

    @property
    def complaints(self) -> tuple[str, ...]:
        """What is wrong with its heartbeats."""
        said = {"agent": self.agent_invalid, "fetcher": self.fetcher_invalid}
        return tuple(f"{who}'s {words}" for who, words in said.items() if words is not None)


class ApiKey(_View):
    id: str
    tenant: str
    name: str
    created_at: datetime
    last_used_at: datetime | None = None


class CreatedKey(ApiKey):
    key: str


class ColdStart(_View):
    id: str
    model: str
    weight_bytes: int
    bytes_from_cache: int
    predicted_ttft_ms: float | None = None
    measured_ttft_ms: float | None = None
    cause: str | None
    guilty_worker_id: str | None = None
    started_at: datetime
    ready_at: datetime | None
    ended_at: datetime | None

    @property
    def outcome(self) -> str:
        if self.ready_at is not None:
            return "ready"
        return "starting" if self.ended_at is None else self.cause or "ended"

    @property
    def failure(self) -> Failure | None:
        return None if self.cause is None else Failure(self.guilty_worker_id)

    @property
    def took_s(self) -> float | None:
        end = self.ready_at or self.ended_at
        return None if end is None else (end - self.started_at).total_seconds()


class _Step(_View):
    name: str
    actor: str
    node_id: str | None
    stage_index: int | None
    started_at: datetime
    ended_at: datetime | None
    detail: str = ""

    def timed(self, began: datetime) -> TimedStep:
        return TimedStep(
            actor=self.actor,
            name=self.name,
            node_id=self.node_id,
            stage_index=self.stage_index,
            start_s=(self.started_at - began).total_seconds(),
            end_s=None if self.ended_at is None else (self.ended_at - began).total_seconds(),
            detail=self.detail,
        )


class ConsideredPlan(_View):
    """The first one was taken."""

    num_stages: int
    num_full: int
    nodes: tuple[str, ...]
    verdict: str
    is_estimate: bool = False
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    cost_byte_s: float | None = None


class ColdStartDetail(ColdStart):
    plans: tuple[ConsideredPlan, ...] = ()
    steps: tuple[_Step, ...]

    @property
    def timed_steps(self) -> tuple[TimedStep, ...]:
        return tuple(step.timed(self.started_at) for step in self.steps)
