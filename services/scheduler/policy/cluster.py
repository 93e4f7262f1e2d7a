"""The scheduler's values: what rows and heartbeats become once they are inside. No I/O, no clock.

Moments (`…_at_s`, `…_since_s`, `…_until_s`) are monotonic seconds of the leader that read the rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from libs.common.bus.messages import ModelSummary
from libs.common.causes import Fault
from libs.common.engines import BFLOAT16, PRIORS
from libs.common.states import (
    EndpointState,
    EngineChoice,
    EngineKind,
    LossKind,
    MemberMemory,
    MemberRole,
    ModelState,
    StartPurpose,
    WorkerState,
)
from services.scheduler.policy.consolidation.consolidation import (
    NO_TRIES,
    Consolidation,
    ConsolidationTries,
)
from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.prediction.device_shares import NO_NEIGHBOURS, DeviceNeighbours
from services.scheduler.policy.prediction.objective import SOONEST, Objective

FIRST_EPOCH = 1  # of an endpoint; grows when its entry worker changes


@dataclass(frozen=True)
class Model:
    id: str
    tenant: str
    name: str
    state: ModelState
    cause: str | None
    keep_alive_s: float
    max_pipeline_size: int
    max_queue: int
    max_slots: int
    max_endpoints: int
    max_context_tokens: int | None
    kv_cache_bytes: int | None
    manifest_digest: str | None
    num_failed_starts: int
    backoff_until_s: float | None  # may be over; None: no start of it ever failed
    min_pipeline_size: int = 1  # where there are nodes for so many stages
    # Of a pipeline, with memory for the whole model, where there is room; None: as planned.
    full_memory_workers: int | None = None
    slo_ttft_s: float = 10.0
    slo_tpot_s: float = 0.2
    engine_choice: EngineChoice = EngineChoice.AUTO
    min_endpoints: int = 0  # that it shall have, whoever asks
    is_keep_alive_auto: bool = False  # its own gaps decide, and not `keep_alive_s`

    @property
    def engine(self) -> EngineKind:
        """What its workers run. The stage engine is the only one that a build has for certain."""
        if self.engine_choice is EngineChoice.AUTO:
            return EngineKind.STAGE
        return EngineKind(self.engine_choice)

    @property
    def is_imported_again(self) -> bool:
        """It was READY, and an object of it was found damaged."""
        return self.state is ModelState.IMPORTING and self.manifest_digest is not None

    def backs_off(self, now_s: float) -> bool:
        return self.backoff_until_s is not None and self.backoff_until_s > now_s


@dataclass(frozen=True)
class Worker:
    """A worker that may still hold device memory: its reservation exists."""

    id: str
    endpoint_id: str
    node_id: str
    device_index: int
    device_bytes: int
    stage_index: int
    state: WorkerState
    is_desired: bool
    public_key: str | None
    fetch_id: str | None = None  # of the fetch that its start waits for
    address: str | None = None  # of its data socket, with the key
    is_connected: bool = False  # it was told who its neighbours are
    is_launch_due: bool = True  # False: its node has been told to fetch, not yet to run it
    context_tokens: int | None = None  # the longest sequence that it was started for
    manifest_digest: str = ""
    unit_digests: tuple[str, ...] = ()
    worker_bytes: int = 0  # of device_bytes, what its process may take itself
    kv_tokens: int = 0  # KV slots; 0: of a version that did not say
    consolidation: Consolidation | None = None  # it is to become a whole endpoint

    @property
    def held_digests(self) -> tuple[str, ...]:
        """Of units that its node's host cache keeps for it."""
        target = self.consolidation
        return self.unit_digests if target is None else self.unit_digests + target.unit_digests


@dataclass(frozen=True)
class Member:
    """A worker's part in one generation of an endpoint: it executes [first_layer, last_layer)."""

    worker_id: str
    role: MemberRole
    stage_index: int
    first_layer: int
    last_layer: int
    memory: MemberMemory

    @property
    def is_full(self) -> bool:
        return self.memory is MemberMemory.FULL


@dataclass(frozen=True)
class Endpoint:
    """Its shape is the current generation's members, in the order of the stages.

    `workers` are all that still hold memory for it, which may be more: those of a generation to
    come, and those that have left.
    """

    id: str
    tenant: str
    model_id: str
    epoch: int
    state: EndpointState
    max_slots: int
    cold_start_id: str | None
    has_been_ready: bool
    idle_since_s: float | None  # None while busy
    generation: int
    members: tuple[Member, ...]
    workers: tuple[Worker, ...]
    ready_since_s: float | None = None  # None: it never was, or nobody remembers
    purpose: StartPurpose = StartPurpose.REQUEST
    consolidation_tries: ConsolidationTries = NO_TRIES

    @property
    def num_stages(self) -> int:
        return len(self.members)

    @cached_property
    def member_workers(self) -> tuple[Worker, ...]:
        """Those of the current generation that still hold memory, in the order of the stages."""
        by_id = {worker.id: worker for worker in self.workers}
        return tuple(by_id[m.worker_id] for m in self.members if m.worker_id in by_id)

    @cached_property
    def entry(self) -> Worker | None:
        """The worker that owns its requests; None once it is gone."""
        entry_id = next((m.worker_id for m in self.members if m.role is MemberRole.ENTRY), None)
        return next((worker for worker in self.workers if worker.id == entry_id), None)

    @property
    def consolidation(self) -> Consolidation | None:
        """The open one."""
        return None if self.entry is None else self.entry.consolidation

    @property
    def growing_workers(self) -> tuple[Worker, ...]:
        """Those that are to become endpoints of their own beside the entry: members of a pipeline,
        or left of one."""
        entry = self.entry
        others = (worker for worker in self.workers if entry is None or worker.id != entry.id)
        return tuple(w for w in others if w.is_desired and w.consolidation is not None)

    @property
    def is_consolidatable(self) -> bool:
        """It is a pipeline whose entry has memory for the whole model."""
        is_pipeline = self.state.is_serving and self.num_stages > 1
        return is_pipeline and any(m.is_full and m.role is MemberRole.ENTRY for m in self.members)

    @property
    def leaving_workers(self) -> tuple[Worker, ...]:
        """Those whose memory comes free with it, or before: of one that serves and is not asked to
        go, all; of one that has become one worker, the others until they are gone."""
        leaving = tuple(worker for worker in self.workers if not worker.is_desired)
        is_left_behind = self.state.is_serving and leaving
        return leaving if is_left_behind else self.workers

    @property
    def is_whole(self) -> bool:
        """Every member still has its worker."""
        return len(self.member_workers) == len(self.members)

    @property
    def context_tokens(self) -> int | None:
        """The same on all its stages; None without a worker."""
        return self.workers[0].context_tokens if self.workers else None

    @property
    def is_released(self) -> bool:
        """Nothing of it is wanted any more; it waits for its workers to be gone."""
        return not any(worker.is_desired for worker in self.workers)

    def idle_s(self, now_s: float) -> float | None:
        return None if self.idle_since_s is None else now_s - self.idle_since_s


@dataclass(frozen=True)
class EndpointFailure:
    """What is remembered of an endpoint that failed, for as long as it matters."""

    endpoint_id: str
    model_id: str
    at_s: float
    cause: str  # in words
    suspect_nodes: frozenset[str]  # with whose worker it began, where somebody can say
    fault: Fault = Fault.BUG
    has_been_ready: bool = True


@dataclass(frozen=True)
class RequestLoss:
    """An endpoint that a request was lost with, as its gateway reported."""

    endpoint_id: str
    reported_at_s: float
    has_progressed: bool  # the attempt there had delivered a token
    kind: LossKind | None = None  # None: the cause of the endpoint's end is not known yet


# Gateway and worker end an assigned request themselves, at its deadline.
DEADLINE_GRACE_S = 30.0


@dataclass(frozen=True)
class OpenRequest:
    """An accepted request that has not ended, as its row says."""

    id: str
    model_id: str
    gateway_id: str
    attempt: int
    num_engine_crashes: int
    num_node_losses: int
    endpoint_id: str | None  # None: queued
    arrived_at_s: float
    deadline_at_s: float
    losses: tuple[RequestLoss, ...] = ()  # oldest first
    num_prompt_tokens: int = 256

    @property
    def has_losses(self) -> bool:
        """It was lost with an endpoint, whatever that counts as."""
        return bool(self.losses or self.num_engine_crashes or self.num_node_losses)

    @property
    def ends_at_s(self) -> float:
        """When the scheduler ends it for its deadline."""
        return self.deadline_at_s if self.is_queued else self.deadline_at_s + DEADLINE_GRACE_S

    @property
    def is_queued(self) -> bool:
        return self.endpoint_id is None


@dataclass(frozen=True)
class NodeRecord:
    """What the rows say of a node; what it says itself is in `Observed`."""

    id: str
    desired_version: int
    agent_boot_id: str | None  # whose workers the rows are about


@dataclass(frozen=True)
class Device:
    node_id: str
    index: int
    memory_bytes: int
    reserved_bytes: int
    cores: int
    # Of the stage engine, as its node has measured it, or by its prior:
    worker_bytes: int = 0  # what each process takes beside weights and KV cache
    launch_s: float = PRIORS[EngineKind.STAGE].launch_s  # of a process that must import it first
    has_bfloat16: bool = True  # whether it computes models of that type

    @property
    def free_bytes(self) -> int:
        """Below 0 where a device is gone, or has become smaller, under its reservations."""
        return self.memory_bytes - self.reserved_bytes

    @property
    def room_bytes(self) -> int:
        """For weights and KV cache of one more worker; never less than none."""
        return max(0, self.free_bytes - self.worker_bytes)

    def computes(self, dtype: str) -> bool:
        """Whether a model whose weights are of that type can run there."""
        return self.has_bfloat16 or dtype != BFLOAT16


@dataclass(frozen=True)
class DeviceSize:
    """What a device would offer if it, and its node's host cache, were empty.

    Of `memory_bytes` each process takes `worker_bytes` beside weights and KV cache.
    """

    node_id: str
    index: int
    memory_bytes: int
    cache_bytes: int | None = None  # of its node; None: not known
    nic_bytes_per_s: int = 0  # of its node; 0: no cap is known
    worker_bytes: int = 0
    has_bfloat16: bool = True


@dataclass(frozen=True)
class Deployable:
    """A READY model together with what its manifest says: the planner's second input."""

    model: Model
    manifest_digest: str
    summary: ModelSummary
    # By node: which of its units the host cache holds. Only nodes that hold any.
    cached: Mapping[str, frozenset[str]] = field(default_factory=dict, hash=False)
    objective: Objective = SOONEST
    # Of every device, who computes there already.
    neighbours: DeviceNeighbours = field(default=NO_NEIGHBOURS, hash=False, compare=False)

    @cached_property
    def unit_digests(self) -> frozenset[str]:
        return frozenset(unit.digest for unit in self.summary.units)


@dataclass(frozen=True)
class Demand:
    """What a model's requests ask for at one moment."""

    num_queued: int = 0
    num_orphaned: int = 0  # given to an endpoint that has ended; their gateways will come again
    num_unheard: int = 0  # of gateways that nobody has heard yet: perhaps they live, perhaps not
    arrived_at_s: float = inf  # of whoever came first; inf: nobody waits

    @property
    def num_waiting(self) -> int:
        return self.num_queued + self.num_orphaned
