"""Every message body that crosses the bus: frozen, versioned by subject, one class per subject.

Commands are imperative, events past tense. Which subject carries which class, who may publish and
who may listen stands in `subjects.py`. Ids are `libs.common.ids` texts; durations are remaining
milliseconds because clocks of two nodes differ; wall times are UTC and only for people's eyes.
"""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from libs.common.bus.digest_table import with_table, without_table
from libs.common.causes import Cause
from libs.common.decode_batches import DECODE_BATCHES
from libs.common.reasons import Reason
from libs.common.sampling import SamplingParameters
from libs.common.states import (
    ConsolidationPhase,
    EngineKind,
    FetchClass,
    FetchPurpose,
    FetchState,
    FinishReason,
    ImportState,
    MemberRole,
    WorkerState,
)
from libs.common.token_ids import TokenIds
from libs.common.weights.unit_set_digest import NUM_BUCKETS

Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
SetDigest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]  # unit_set_digest.py
Bucket = Annotated[int, Field(ge=0, lt=NUM_BUCKETS)]
TokenId = Annotated[int, Field(ge=0)]
MAX_PAUSE_MS = 1e10  # a third of a year: no request lives so long
MAX_LISTED_UNITS = 4096  # in one answer, which has 280 KB then


def _token_ids(value: object) -> TokenIds:
    try:
        return TokenIds.from_base64(value) if isinstance(value, str) else TokenIds(_iterable(value))
    except (OverflowError, TypeError) as exc:
        raise ValueError(f"these are no token ids: {exc}") from exc


def _iterable(value: object) -> Iterable[int]:
    if not isinstance(value, Iterable):
        raise TypeError(f"a {type(value).__name__}")
    return value


PackedIds = Annotated[
    TokenIds,
    PlainValidator(_token_ids),
    PlainSerializer(TokenIds.base64, return_type=str),
]


class Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    # The field that alone changes where a sender repeats itself; None: senders do not.
    COUNTER: ClassVar[str | None] = None


# ---------------------------------------------------------------- a request


def _checked(sampling: SamplingParameters) -> SamplingParameters:
    sampling.check()  # what it raises is a ValueError, as pydantic wants it
    return sampling


Sampling = Annotated[SamplingParameters, AfterValidator(_checked)]


class SubmitRequest(Message):
    """Gateway → leading scheduler, idempotent by (request_id, attempt), repeated until answered."""

    request_id: Id
    tenant: str  # who asks: tenants are answered in turn
    gateway_id: Id
    model_id: Id
    attempt: int = Field(ge=1)
    num_prompt_tokens: int = Field(ge=1)
    max_tokens: int = Field(ge=1)
    remaining_ms: int = Field(gt=0)
    # The endpoint whose loss made this attempt necessary; None for a first attempt or after busy.
    lost_endpoint_id: Id | None = None
    # Whether that endpoint had the request for certain. If not, its end says nothing about it.
    was_taken: bool = True
    has_progressed: bool = False  # the attempt there had delivered a token


class SubmitAccepted(Message):
    kind: Literal["accepted"] = "accepted"
    queue_position: int = Field(ge=0)  # requests of the model before this one
    # Set when the request was assigned already: a lost `assigned` is cured by the repetition.
    assigned: "RequestAssigned | None" = None


class SubmitRefused(Message):
    kind: Literal["refused"] = "refused"
    code: Reason
    message: str  # names the cause and the next step
    retry_after_s: int | None = Field(default=None, ge=1)  # None: as the reason's row says
    # With deadline_too_short: what a start takes at least, as predicted.
    needed_s: float | None = Field(default=None, ge=0)
    limit: int | None = Field(default=None, ge=0)  # with tenant_limit: of queued requests


class SubmitReply(Message):
    result: Annotated[SubmitAccepted | SubmitRefused, Field(discriminator="kind")]


class ListWaiting(Message):
    """Gateway → leading scheduler, every 2 s: requests that were accepted and have no endpoint."""

    gateway_id: Id
    attempts: dict[Id, Annotated[int, Field(ge=1)]]  # by request


class WaitingListed(Message):
    """Those that wait in that attempt; of the others the gateway asks one by one."""

    positions: dict[Id, Annotated[int, Field(ge=0)]]  # requests of the model before each


class RequestAssigned(Message):
    """Scheduler → gateway: send `generate` to this endpoint now, it may still be starting."""

    request_id: Id
    attempt: int
    endpoint_id: Id
    epoch: int  # the endpoint's own, see Generate
    is_starting: bool = False  # when this was said

    def is_same_as(self, other: "RequestAssigned") -> bool:
        """Whether both name the same endpoint, which may serve meanwhile."""
        return (self.endpoint_id, self.epoch) == (other.endpoint_id, other.epoch)


class RequestProgressed(Message):
    """Scheduler → gateway: what a waiting client is told."""

    request_id: Id
    phase: Literal["queued", "planned", "fetching", "starting", "ready"]
    queue_position: int | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    reason: Reason | None = None  # why it waits, if that is what its deadline will pass for


class RequestRefused(Message):
    """Scheduler → gateway: an accepted request cannot be served after all."""

    request_id: Id
    attempt: int
    code: Reason
    message: str
    retry_after_s: int | None = Field(default=None, ge=1)


class PromptSize(Message):
    """Of what an entry worker prefills; `generated` tokens are those of earlier attempts."""

    num_prompt_ids: int = Field(ge=1)
    num_generated_ids: int = Field(ge=0)

    @property
    def num_ids(self) -> int:
        return self.num_prompt_ids + self.num_generated_ids


class Generate(Message):
    """Gateway → entry worker's agent. `generated_ids` are what earlier attempts produced.

    What does not fit into one message goes before it, as PromptParts: then only its size is here.
    """

    request_id: Id
    attempt: int = Field(ge=1)
    endpoint_id: Id
    epoch: int
    prompt_ids: PackedIds = TokenIds()
    generated_ids: PackedIds = TokenIds()
    in_parts: PromptSize | None = None
    sampling: Sampling
    remaining_ms: int = Field(gt=0)

    @model_validator(mode="after")
    def _check(self) -> "Generate":
        if bool(self.prompt_ids) == (self.in_parts is not None):
            raise ValueError("the prompt is either here or in parts")
        if self.in_parts is not None and self.generated_ids:
            raise ValueError("generated tokens are in parts if the prompt is")
        return self

    @property
    def size(self) -> PromptSize:
        return self.in_parts or PromptSize(
            num_prompt_ids=len(self.prompt_ids), num_generated_ids=len(self.generated_ids)
        )


class PromptPart(Message):
    """Gateway → entry worker's agent, before `generate`: some of the prompt's ids and of those
    that were generated, which follow them. In any order, each as often as it takes."""

    request_id: Id
    attempt: int = Field(ge=1)
    endpoint_id: Id
    epoch: int
    size: PromptSize  # of all parts together
    first_index: int = Field(ge=0)  # of these ids, among all
    ids: PackedIds


class GenerateReply(Message):
    # stale_context: it was started with a shorter context than its model has by now.
    # ended: this attempt was here already, and is over; the next one may come.
    # To a part: kept, or no_room while other prompts come in parts. To `generate`: incomplete, when
    # parts are missing.
    result: Literal[
        "accepted",
        "busy",
        "draining",
        "stale_epoch",
        "stale_context",
        "ended",
        "refused",
        "kept",
        "no_room",
        "incomplete",
    ]
    message: str = ""  # for refused: why this worker can never serve it


class Logprob(Message):
    logprob: float
    top: tuple[tuple[TokenId, float], ...] = ()  # most likely first


class TokensGenerated(Message):
    """Worker → gateway, one per step. `start_index` counts generated tokens of all attempts."""

    request_id: Id
    attempt: int
    start_index: int = Field(ge=0)
    ids: tuple[TokenId, ...]
    logprobs: tuple[Logprob, ...] | None = None
    finish: FinishReason | None = None
    error: str | None = None  # with finish = error
    # Since the agent took the attempt: with its first token, and with its finish.
    first_token_ms: int | None = Field(default=None, ge=0)
    finish_ms: int | None = Field(default=None, ge=0)


class ResendTokens(Message):
    """Gateway → agent: publish everything from this index again."""

    request_id: Id
    attempt: int
    from_index: int = Field(ge=0)


class ResendReply(Message):
    known: bool  # False: this endpoint has no such request, resubmit
    next_index: int = 0  # how many tokens there are so far


class AcknowledgeFinish(Message):
    """Gateway → agent: the finish was seen, forget the request's tokens."""

    request_id: Id
    attempt: int


class CancelRequest(Message):
    """Gateway → agent (assigned) or scheduler (waiting); repeated until acknowledged.

    Scheduler → agent where the gateway is lost; what was generated for `unread_ms` reached nobody.
    """

    request_id: Id
    attempt: int
    tenant: str = ""  # to the scheduler: as in the submission, which it must not overtake
    unread_ms: int | None = Field(default=None, ge=0)


class Acknowledged(Message):
    known: bool


# ------------------------------------------------------- a node's desired state


class LayerRange(Message):
    """Which layers a stage executes: [first_layer, last_layer) may be empty."""

    first_layer: int = Field(ge=0)
    last_layer: int = Field(ge=0)


class Peer(Message):
    """A neighbouring stage's data socket; the key is public (CURVE, 40 characters of Z85)."""

    worker_id: Id
    address: Annotated[str, StringConstraints(pattern=r"^tcp://[^\s]{3,200}$")]
    public_key: Annotated[str, StringConstraints(min_length=40, max_length=40)] | None


class TargetGeneration(Message):
    """What a worker that serves shall become, in the background: the whole model, alone.

    It says by `WorkerObserved.generation` when it is. Until then it may not be, and a target that
    is taken back before the switch leaves it as it was.
    """

    generation: int = Field(ge=2)  # of its endpoint
    # At that generation: one that was abandoned may be tried again, and is told apart by this.
    attempt: int = Field(default=1, ge=1)
    unit_digests: tuple[Digest, ...]  # that it lacks, in the order in which it needs them
    kv_bytes: int = Field(ge=0)  # of all layers
    timeout_ms: int = Field(gt=0)  # for the weights to come, from when it hears of it


class WorkerSpec(Message):
    """One worker process as the scheduler wants it.

    `previous` and `next` are filled in once the neighbours have registered; stages form a ring, the
    last one's next is stage 0. A one-stage endpoint has neither.
    """

    worker_id: Id
    endpoint_id: Id
    endpoint_epoch: int
    model_id: Id
    manifest_digest: Digest
    generation: int = Field(ge=1)  # of its endpoint, in which it has this part
    role: MemberRole
    stage_index: int = Field(ge=0)
    num_stages: int = Field(ge=1)
    engine: EngineKind = EngineKind.STAGE
    layers: LayerRange
    unit_digests: tuple[Digest, ...]  # in the order in which the worker needs them
    device_index: int = Field(ge=0)
    device_bytes: int = Field(gt=0)  # reserved: weights, KV, spare_bytes and worker_bytes
    worker_bytes: int = Field(default=0, ge=0)  # what its process may take beside the others
    spare_bytes: int = Field(default=0, ge=0)  # kept for layers that it does not have yet
    kv_bytes: int = Field(ge=0)
    kv_tokens: int = Field(default=0, ge=0)  # KV slots, the same on every stage
    previous: Peer | None = None
    next: Peer | None = None
    max_slots: int = Field(ge=1)  # requests at once
    max_context_tokens: int = Field(ge=1)
    cores: int = Field(ge=1)
    is_draining: bool = False
    start_timeout_ms: int = Field(gt=0)
    traceparent: str | None = None
    target: TargetGeneration | None = None


class FetchSpec(Message):
    """Units that a node shall hold. Workers wait for units, whichever fetch brings them."""

    fetch_id: Id
    purpose: FetchPurpose
    fetch_class: FetchClass  # may change while it runs
    deadline_ms: int | None = Field(default=None, ge=0)  # from when this was sent; None: no date
    manifest_digest: Digest
    unit_digests: tuple[Digest, ...]  # in the order in which they are needed
    traceparent: str | None = None


class NodeDesired(Message):
    """Scheduler → fetcher and agent of a node: everything it shall run and hold.

    An agent stops those of `stopped_workers` at once. One that runs and is in neither list is only
    missing, as after the database was restored from an older state: it is stopped a while later,
    if nothing has named it until then.
    """

    node_id: Id
    # Of the process that it was sent to. An agent's next boot must not start workers that were
    # meant for the one before; a fetcher may go on with the work of any.
    boot_id: Id | None = None
    leader_epoch: int  # receivers refuse a lower one than they have seen
    version: int
    workers: tuple[WorkerSpec, ...] = ()
    stopped_workers: tuple[Id, ...] = ()  # named until their node does not report them any more
    fetches: tuple[FetchSpec, ...] = ()

    @model_serializer(mode="wrap", when_used="json")
    def _packed(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Names each unit once."""
        document: dict[str, Any] = serialize(self)
        workers, fetches = document["workers"], document["fetches"]
        targets = [spec["target"] for spec in workers if spec["target"] is not None]
        document["unit_digests"], holders = with_table([*workers, *fetches, *targets])
        packed = iter(holders)
        document["workers"] = [next(packed) for _ in workers]
        document["fetches"] = [next(packed) for _ in fetches]
        for spec in document["workers"]:
            if spec["target"] is not None:
                spec["target"] = next(packed)
        return document

    @model_validator(mode="before")
    @classmethod
    def _unpacked(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "unit_digests" not in value:
            return value
        document = dict(value)
        try:
            table = document.pop("unit_digests")
            for key in ("workers", "fetches"):
                document[key] = without_table(table, document.get(key, ()))
            for spec in document["workers"]:
                if spec.get("target") is not None:
                    (spec["target"],) = without_table(table, (spec["target"],))
        except (AttributeError, KeyError, TypeError) as exc:
            raise ValueError(f"its units cannot be read: {exc!r}") from exc
        return document


class DesiredReply(Message):
    accepted_version: int
    refused: str | None = None  # e.g. a stale leader epoch


# ---------------------------------------------------------- what a node observes


class Step(Message):
    """One step of a cold start, by whoever did it. `ended_at` is None while it runs."""

    name: Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\x00]*$")]
    started_at: AwareDatetime
    ended_at: AwareDatetime | None = None
    detail: Annotated[str, StringConstraints(max_length=200)] = ""


class DeviceObserved(Message):
    index: int
    kind: Literal["cpu", "cuda"]
    memory_bytes: int
    cores: int
    has_bfloat16: bool = True  # whether it computes models of that type


class EngineObserved(Message):
    """What an engine takes on a node, as its workers there have shown; None: not measured."""

    engine: EngineKind
    # From the launch of a process until it has imported the engine; standbys are none of these.
    launch_ms: int | None = Field(default=None, ge=1, le=3_600_000)
    worker_bytes: int | None = Field(default=None, ge=0, lt=2**50)  # of a GPU, beside weights, KV


class DecodeTime(Message):
    batch: Literal[1, 2, 4, 8, 16]  # DECODE_BATCHES
    mean_us: int = Field(ge=1, le=10**12)


class EngineSpeed(Message):
    """How long an endpoint computes, as its entry sees it: through all stages, with the hops. Of
    steps that nothing else was in flight with; the latest weigh most."""

    prefill_us_per_token: float | None = Field(default=None, gt=0, le=1e12)
    decode: tuple[DecodeTime, ...] = Field(default=(), max_length=len(DECODE_BATCHES))

    @model_validator(mode="after")
    def _check(self) -> "EngineSpeed":
        if len({time.batch for time in self.decode}) < len(self.decode):
            raise ValueError("it names one batch twice")
        return self


class ConsolidationObserved(Message):
    """How far an entry is on its way to its target generation."""

    generation: int = Field(ge=2)
    attempt: int = Field(default=1, ge=1)
    phase: ConsolidationPhase
    why: Annotated[str, StringConstraints(max_length=200)] = ""  # with ABANDONED


class PauseObserved(Message):
    """The gap between two tokens of a request in which its endpoint's switch was."""

    request_id: Id
    pause_ms: float = Field(ge=0, le=MAX_PAUSE_MS, allow_inf_nan=False)
    # Between its tokens before, at the median; None: it had one only.
    usual_gap_ms: float | None = Field(default=None, ge=0, le=MAX_PAUSE_MS, allow_inf_nan=False)


class SwitchObserved(Message):
    """How an entry left its pipeline."""

    generation: int = Field(ge=2)  # that it reached
    transfer: Literal["move", "recompute"]  # of the keys and values of what ran
    # As predicted, by which it was chosen; None: nobody had measured a prompt, or an old version.
    predicted_move_ms: float | None = Field(default=None, ge=0, le=1e15, allow_inf_nan=False)
    predicted_recompute_ms: float | None = Field(default=None, ge=0, le=1e15, allow_inf_nan=False)
    num_sequences: int = Field(ge=0, le=65_536)  # that ran
    precopied_bytes: int = Field(ge=0, lt=2**60)  # of keys and values that came before
    moved_bytes: int = Field(ge=0, lt=2**60)  # and that the switch waited for
    drain_ms: float = Field(ge=0, le=MAX_PAUSE_MS, allow_inf_nan=False)
    move_ms: float = Field(ge=0, le=MAX_PAUSE_MS, allow_inf_nan=False)
    pauses: tuple[PauseObserved, ...] = Field(default=(), max_length=256)  # the longest first


class WorkerObserved(Message):
    worker_id: Id
    endpoint_id: Id
    state: WorkerState
    pid: int | None = None
    cause: Cause | None = None  # with FAILED
    address: str | None = None  # data plane, from REGISTERED on
    public_key: str | None = None
    num_running: int = 0  # requests being executed
    num_waiting: int = 0  # requests held until a slot or the weights are there
    # Of an entry stage or a whole model; the others follow it and do not know who is done.
    kv_used_bytes: int = 0
    kv_capacity_bytes: int = 0
    step_us: int = 0  # mean time of a step, the latest ones weigh most; 0: none yet
    speed: EngineSpeed | None = None  # of an entry; None: nothing was measured yet
    idle_ms: int = 0  # since the last request ended, or since ready
    progress: int = 0  # grows while its engine computes, also during the start
    steps: tuple[Step, ...] = ()
    # Of the last seconds, on a CPU, each 0 to 1; None: not measured, or it had nothing to compute.
    compute_share: float | None = None  # of the processor time that it wanted, what it got
    compute_demand: float | None = None  # of its device's cores, or of its cap, what it wanted
    generation: int = Field(default=1, ge=1)  # of its endpoint, that it has reached
    consolidation: ConsolidationObserved | None = None  # None: it has no target
    switch: SwitchObserved | None = None  # for some seconds after it


class UnacknowledgedEnd(Message):
    """A request that ended while its gateway is perhaps gone: what it then owes for."""

    request_id: Id
    attempt: int
    num_generated_tokens: int  # of all attempts, without those that reached nobody


class AgentHeartbeat(Message):
    """Sent on every change and each second; carries the whole observed state."""

    COUNTER = "sequence"

    node_id: Id
    boot_id: Id  # new at every start of the agent
    sequence: int  # grows by one within a boot
    accepted_version: int
    devices: tuple[DeviceObserved, ...]
    workers: tuple[WorkerObserved, ...]
    num_standbys: int = 0  # processes that wait, ready, for a worker to be launched
    engines: tuple[EngineObserved, ...] = Field(default=(), max_length=8)  # each once
    unacknowledged: tuple[UnacknowledgedEnd, ...] = ()  # for a minute after each end


class FetchObserved(Message):
    fetch_id: Id
    state: FetchState
    bytes_done: int = 0
    bytes_total: int = 0
    bytes_from_cache: int = 0
    cause: Cause | None = None  # with FAILED
    steps: tuple[Step, ...] = ()


class HostCacheReport(Message):
    """The set of a node's complete units, told by its latest changes and its digest: whoever knows
    the set as of `since_version` or later knows it now."""

    version: int  # counts the set's changes within a boot
    since_version: int
    added: tuple[Digest, ...] = ()  # since then, and still there
    removed: tuple[Digest, ...] = ()  # since then, and still gone
    num_units: int
    set_digest: SetDigest


class FetcherHeartbeat(Message):
    """Sent on every change and each second; carries the whole observed state."""

    COUNTER = "sequence"

    node_id: Id
    boot_id: Id
    sequence: int
    accepted_version: int
    nic_bytes_per_s: int  # configured cap, 0 = none
    measured_bytes_per_s: float | None
    cache_capacity_bytes: int  # now: others may have filled the file system
    cache_used_bytes: int
    # What it may hold while nobody else uses its file system; None: it does not say.
    cache_max_bytes: int | None = None
    host_cache: HostCacheReport
    fetches: tuple[FetchObserved, ...]


class ReadBucketDigests(Message):
    """Scheduler → fetcher: where do the sets differ?"""


class BucketDigests(Message):
    """Of the cached units in 256 parts, by the first byte of their digests."""

    boot_id: Id
    version: int = Field(ge=0)  # of the set
    set_digests: tuple[SetDigest, ...] = Field(min_length=NUM_BUCKETS, max_length=NUM_BUCKETS)


class ListCachedUnits(Message):
    """Scheduler → fetcher: what is in these buckets, in the order of digests?"""

    buckets: tuple[Bucket, ...] = Field(min_length=1, max_length=NUM_BUCKETS)
    after: Digest | None = None  # the last one that is known; None: from the first on


class CachedUnitsListed(Message):
    boot_id: Id
    version: int = Field(ge=0)  # of the set
    units: tuple[Digest, ...] = Field(
        max_length=MAX_LISTED_UNITS
    )  # each greater than the one before
    is_last: bool  # nothing follows in these buckets


class GatewayHeartbeat(Message):
    """Each second. The id is of the process: its name and a part that is new at every start."""

    gateway_id: Id
    request_ids: tuple[Id, ...]  # what it still waits for or streams
    # Of requests that lost two endpoints or more: the attempt that runs, once it has had a token.
    progressed: dict[Id, int] = Field(default_factory=dict)


class RequestsEnded(Message):
    """Gateway → leader, a hint: rows with an end were written, so their slots are free."""

    gateway_id: Id
    request_ids: tuple[Id, ...]


# --------------------------------------------------------------------- imports


class ImportModel(Message):
    """Scheduler → any fetcher (JetStream work queue); idempotent."""

    model_id: Id
    import_id: Id  # one per try; a new one makes older tries stale
    source: str  # path of a folder or a .gguf file
    tenant: str
    is_public: bool  # other tenants may use its units, too
    # Of a model that is imported again, because these of its objects may be damaged: where they
    # turn out to be whole, or are whole again, nothing needs to be done.
    manifest_digest: Digest | None = None
    suspect_keys: tuple[str, ...] = ()


class ImportProgressed(Message):
    """Fetcher → scheduler. With DONE the manifest is stored and can be fetched."""

    model_id: Id
    import_id: Id
    node_id: Id
    state: ImportState
    bytes_done: int = 0
    bytes_total: int = 0
    manifest_digest: Digest | None = None
    summary: "ModelSummary | None" = None
    cause: str | None = None


class UnitSummary(Message):
    kind: Literal["embedding", "layer", "final_norm", "lm_head"]
    layer: int | None = None
    digest: Digest
    size_bytes: int


class ModelFacts(Message):
    """What a gateway needs of a manifest: its summary without the list of units."""

    architecture: str
    dtype: str
    num_layers: int
    vocab_size: int
    max_context_tokens: int
    kv_bytes_per_token: int
    weight_bytes: int
    eos_token_ids: tuple[TokenId, ...]
    bos_token_id: TokenId | None = None
    # name → (object key digest, size): tokenizer.json, tokenizer_config.json, chat_template.jinja
    tokenizer_files: dict[str, tuple[Digest, int]]


class ModelSummary(ModelFacts):
    """What the scheduler and the gateway need of a manifest, so that neither parses it."""

    units: tuple[UnitSummary, ...]


# ---------------------------------------------------------------------- routes


class EngineLoad(Message):
    """Of an endpoint's entry stage, as its WorkerObserved says."""

    num_running: int
    num_waiting: int
    kv_used_bytes: int
    kv_capacity_bytes: int
    step_us: int


class Route(Message):
    endpoint_id: Id
    epoch: int
    max_slots: int
    load: EngineLoad | None = None  # for people's eyes, up to 5 s old; None: not heard of yet


class RoutesPart(Message):
    """Some of all models: those whose hash gives this remainder (`route_parts.py`)."""

    part: int = Field(ge=0)
    num_parts: int = Field(ge=1, le=2**20)  # a power of two

    @model_validator(mode="after")
    def _check(self) -> "RoutesPart":
        if self.num_parts & (self.num_parts - 1) or self.part >= self.num_parts:
            raise ValueError("there is no such part")
        return self


class RoutesPublished(Message):
    """Leader → gateways: all serving endpoints of some models. A hint, no promise.

    On change of the models that changed; an empty list says that a model has no route any more.
    Every 5 s of all models, in parts: models of the part that are not named have no route.
    """

    leader_epoch: int
    routes: dict[str, tuple[Route, ...]]  # by model_id
    part: RoutesPart | None = None  # None: it says nothing of models that it does not name


class ListRoutes(Message):
    """Gateway → leader, at its start: the routes of a part, or of a smaller one within it."""

    part: RoutesPart


class ModelsChanged(Message):
    """Gateway or scheduler → everybody: rows of `models` changed, read them again."""

    model_ids: tuple[Id, ...]


SubmitAccepted.model_rebuild()
ImportProgressed.model_rebuild()
