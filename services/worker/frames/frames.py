"""What agent and worker process say to each other over the inherited socketpair.

A frame is a 4-byte big-endian length and that many bytes of JSON: `{"kind": class, "body": …}`.
Both sides use this one module, and stdlib only: the worker process must start fast and knows
neither the bus nor pydantic. Wall times are seconds since the epoch, UTC.
"""

import json
import struct
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, cast, get_args

from libs.common.causes import Cause
from libs.common.sampling import SamplingParameters
from libs.common.states import EngineKind, FetchClass, FinishReason
from libs.common.strict_json import JsonFieldError, JsonObject, parse_object
from libs.common.token_ids import BYTES_PER_ID, TokenIds
from services.worker.errors import FrameError
from services.worker.frames.codec import reader_for, to_json
from services.worker.frames.consolidation import (
    AbandonConsolidation,
    Consolidate,
    ConsolidationChanged,
    SwitchMeasured,
)
from services.worker.frames.dataplane import DataPlaneOptions, Neighbour


class Origin(StrEnum):
    """Where a worker process comes from: the detail of its first step, `spawn`."""

    LAUNCHED = "launched"
    STANDBY = "standby"


MAX_FRAME_BYTES = 64 * 2**20
MAX_PROMPT_IDS = (MAX_FRAME_BYTES - 2**20) // 4 * 3 // BYTES_PER_ID  # 12 million, in base64
_HEADER = struct.Struct(">I")
HEADER_BYTES = _HEADER.size


# ------------------------------------------------------------------ agent → worker


@dataclass(frozen=True)
class StartWorker:
    """The first frame: everything a worker process is told about its work."""

    worker_id: str
    manifest_digest: str
    unit_digests: tuple[str, ...]  # in the order in which the stage needs them
    stage_index: int
    num_stages: int
    first_layer: int
    last_layer: int  # exclusive
    device: str  # as torch names it: cpu, cuda:0
    device_bytes: int
    kv_bytes: int
    max_slots: int
    max_context_tokens: int
    cores: int
    start_timeout_ms: int
    fetcher_socket: str
    kv_tokens: int = 0  # cache slots, the same on every stage; 0: what kv_bytes hold
    data_plane: DataPlaneOptions = field(default_factory=DataPlaneOptions)
    engine: EngineKind = EngineKind.STAGE
    fetch_class: FetchClass = FetchClass.INTERACTIVE  # whether somebody waits for the weights
    device_uuid: str | None = None  # of the one GPU that the process is shown
    max_threads: int | None = None  # on cores that nobody else wants; None: no more than `cores`


@dataclass(frozen=True)
class ConnectPeers:
    """Who stands beside this stage; sent once both are known, never to a worker of one stage."""

    previous: Neighbour
    next: Neighbour


@dataclass(frozen=True)
class GenerateTokens:
    request_id: str
    attempt: int
    prompt_ids: TokenIds
    generated_ids: TokenIds
    sampling: SamplingParameters


@dataclass(frozen=True)
class CancelGeneration:
    request_id: str
    attempt: int


# ------------------------------------------------------------------ worker → agent


@dataclass(frozen=True)
class Registered:
    """Where neighbours reach this stage; None for a worker that has no neighbours."""

    address: str | None
    public_key: str | None


@dataclass(frozen=True)
class StepTaken:
    """A step of the start, or of a consolidation; sent when it begins and again, by the same name,
    when it ended."""

    name: str
    started_at_s: float
    ended_at_s: float | None
    detail: str = ""


@dataclass(frozen=True)
class Ready:
    """The weights are readable, the stage is built."""


@dataclass(frozen=True)
class TokenLogprob:
    logprob: float
    top: tuple[tuple[int, float], ...]  # most likely first


@dataclass(frozen=True)
class TokensProduced:
    request_id: str
    attempt: int
    start_index: int  # counts generated tokens of all attempts
    ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish: FinishReason | None = None
    error: str | None = None


@dataclass(frozen=True)
class DecodeTime:
    """Of decode steps of so many sequences, as `decode_batch` counts them."""

    batch: int
    mean_us: int


@dataclass(frozen=True)
class StatsChanged:
    num_running: int
    num_waiting: int
    kv_used_bytes: int
    kv_capacity_bytes: int = 0
    # The mean time of a step. No part of the load: it changes with each step.
    step_us: int = field(default=0, compare=False)
    # As the engine's stats; no part of the load, either.
    prefill_us_per_token: float | None = field(default=None, compare=False)
    decode_times: tuple[DecodeTime, ...] = field(default=(), compare=False)
    # What the engine's thread has done so far; the channel fills it in. No part of the load.
    progress: int = field(default=0, compare=False)
    # As WorkerObserved has them; the channel fills them in. No part of the load.
    compute_share: float | None = field(default=None, compare=False)
    compute_demand: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class WorkerFailed:
    """The last frame of a worker that gives up; its exit follows."""

    cause: Cause


ToWorker = (
    StartWorker
    | ConnectPeers
    | GenerateTokens
    | CancelGeneration
    | Consolidate
    | AbandonConsolidation
)
ToAgent = (
    Registered
    | StepTaken
    | Ready
    | TokensProduced
    | StatsChanged
    | WorkerFailed
    | ConsolidationChanged
    | SwitchMeasured
)
Frame = ToWorker | ToAgent
Direction = Literal["to_worker", "to_agent"]

_CLASSES: dict[Direction, dict[str, type]] = {
    "to_worker": {cls.__name__: cls for cls in get_args(ToWorker)},
    "to_agent": {cls.__name__: cls for cls in get_args(ToAgent)},
}


def encode(frame: Frame) -> bytes:
    """Header and body. Raises FrameError when the frame is over MAX_FRAME_BYTES."""
    document = {"kind": type(frame).__name__, "body": to_json(frame)}
    body = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    if len(body) > MAX_FRAME_BYTES:
        raise FrameError(f"a {type(frame).__name__} of {len(body)} bytes is over the limit")
    return _HEADER.pack(len(body)) + body


def decode_to_worker(body: bytes) -> ToWorker:
    """Raises FrameError for anything that an agent would not send."""
    return cast("ToWorker", _decode("to_worker", body))


def decode_to_agent(body: bytes) -> ToAgent:
    """Raises FrameError for anything that a worker would not send."""
    return cast("ToAgent", _decode("to_agent", body))


def body_length(header: bytes) -> int:
    """How many bytes follow a header. Raises FrameError above MAX_FRAME_BYTES."""
    (length,) = _HEADER.unpack(header)
    if length > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {length} bytes is announced, the limit is {MAX_FRAME_BYTES}")
    return int(length)


def _decode(direction: Direction, body: bytes) -> object:
    try:
        document = parse_object(body, name="frame")
        return _read(_CLASSES[direction], document)
    except JsonFieldError as exc:
        raise FrameError(f"malformed frame: {exc}") from exc


def _read(classes: dict[str, type], document: JsonObject) -> object:
    document.require_only(frozenset({"kind", "body"}))
    kind = document.text("kind", max_length=64)
    if kind not in classes:
        raise JsonFieldError("kind", f"one of {', '.join(classes)}")
    return reader_for(classes[kind])(document.values.get("body"), kind)
