"""What clients may see of what runs and what happened: one dataclass per answer."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypeVar

from services.gateway.store.slo_times import SloTime
from services.gateway.store.usage_views import MemoryTime
from services.gateway.store.wait_times import WaitTimes

_View = TypeVar("_View")


@dataclass(frozen=True)
class StepView:
    name: str
    actor: str
    node_id: str | None
    stage_index: int | None
    started_at: datetime
    ended_at: datetime | None
    detail: str


@dataclass(frozen=True)
class ColdStartView:
    id: str
    model_id: str
    model: str
    endpoint_id: str
    request_id: str | None
    traceparent: str | None
    weight_bytes: int
    bytes_from_cache: int
    predicted_ttft_ms: float | None  # from the request's arrival; None: nobody predicted
    measured_ttft_ms: float | None  # None: there is no token yet
    predicted_tpot_ms: float | None
    predicted_cost_byte_s: float | None  # device memory x time
    cause: str | None  # in words
    cause_kind: str | None  # CauseKind; None with a cause: of a version that had no kinds
    guilty_worker_id: str | None  # whom its failure began with, where somebody can say
    started_at: datetime
    ready_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True)
class PlanView:
    """A plan that was looked at. `num_full` of its workers have memory for the whole model."""

    num_stages: int
    num_full: int
    nodes: list[str]  # in the order of the stages
    verdict: str  # why it was taken, or why it lost
    is_estimate: bool = False  # it lost before its layers were cut: it cannot be better than this
    ttft_ms: float | None = None  # from the request's arrival; None: it was not possible
    waited_ms: float | None = None
    ready_ms: float | None = None  # from the decision until every stage can compute
    prefill_ms: float | None = None
    hops_ms: float | None = None
    tpot_ms: float | None = None
    cost_byte_s: float | None = None
    slowdown: float | None = None
    correction: float | None = None  # by what earlier starts were slower than predicted


@dataclass(frozen=True)
class ColdStartDetail(ColdStartView):
    plans: tuple[PlanView, ...]  # the one that was taken first
    steps: tuple[StepView, ...]


@dataclass(frozen=True)
class WorkerView:
    id: str
    endpoint_id: str
    node_id: str
    device_index: int
    stage_index: int
    state: str
    cause: str | None
    cause_kind: str | None
    created_at: datetime
    ready_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True)
class EndpointView:
    id: str
    model_id: str
    model: str
    parent_id: str | None
    epoch: int
    generation: int
    state: str
    cause: str | None
    cause_kind: str | None
    guilty_worker_id: str | None
    max_slots: int
    num_stages: int
    created_at: datetime
    ready_at: datetime | None
    idle_since: datetime | None
    ended_at: datetime | None
    memory: MemoryTime  # so far
    workers: tuple[WorkerView, ...]


@dataclass(frozen=True)
class RequestView:
    id: str
    model_id: str
    attempt: int
    num_engine_crashes: int
    num_node_losses: int
    state: str
    endpoint_id: str | None
    cold_start_id: str | None
    num_prompt_tokens: int
    max_tokens: int
    num_generated_tokens: int
    arrived_at: datetime
    deadline_at: datetime
    assigned_at: datetime | None
    first_token_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    error: str | None
    ttft: SloTime
    tpot: SloTime
    is_slo_met: bool | None
    slo_miss: str | None  # SloMiss: why it was not met; None with False: of an old version
    waited: WaitTimes


@dataclass(frozen=True)
class RequestSummary:
    """One in a list of them."""

    id: str
    tenant: str
    model_id: str
    model: str | None  # None: its row is forgotten
    state: str
    outcome: str | None
    endpoint_id: str | None
    cold_start_id: str | None
    num_prompt_tokens: int
    num_generated_tokens: int
    arrived_at: datetime
    ended_at: datetime | None
    ttft: SloTime
    tpot: SloTime
    is_slo_met: bool | None
    slo_miss: str | None


@dataclass(frozen=True)
class PrefetchView:
    """Weights of a model that a node fetched because it was likely to be asked soon."""

    node_id: str
    state: str  # PrefetchState
    detail: str | None  # why it is in that state
    file_bytes: int  # that it takes of the node's host cache
    started_at: datetime
    complete_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime  # until when the model was likely to be asked


def view_of(cls: type[_View], row: Any, **more: Any) -> _View:
    """A view whose fields are named as the row's columns, but for those given."""
    names = [f.name for f in fields(cls) if f.name not in more]  # type: ignore[arg-type] # a dataclass
    return cls(**{name: getattr(row, name) for name in names}, **more)
