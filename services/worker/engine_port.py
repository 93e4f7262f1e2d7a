"""The engine port: what the worker process's main loops need of whatever computes tokens.

The runtime is written against it and an engine implements it; neither knows more of the other. The
stages of this project are one engine (`services/worker/engine`), chosen by the start frame's
`engine`. Plain values, no torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from libs.common.sampling import SamplingParameters
from libs.common.states import FinishReason


@dataclass(frozen=True)
class Request:
    """One attempt at a generation.

    `generated_ids` are the tokens that earlier attempts produced: they are prefilled like the
    prompt, and the next token's index is their number.
    """

    request_id: str
    attempt: int
    prompt_ids: tuple[int, ...]
    sampling: SamplingParameters
    generated_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class TokenLogprob:
    """Natural logarithms of the model's own distribution, before temperature and truncation."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()  # (token id, logprob), most likely first


@dataclass(frozen=True)
class Output:
    """What one step produced for one request. A stop token is among the token ids."""

    request_id: str
    attempt: int
    start_index: int  # of the first token id, counted over all attempts
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None  # one per token id, where asked for
    finish: FinishReason | None = None
    error: str | None = None  # with FinishReason.ERROR only


@dataclass(frozen=True)
class DecodeTime:
    """Of decode steps of so many sequences, as `decode_batch` counts them."""

    batch: int
    mean_s: float  # the latest steps weigh most


@dataclass(frozen=True)
class EngineStats:
    """What an engine is doing, for heartbeats and metrics."""

    num_running: int = 0
    num_waiting: int = 0
    kv_used_bytes: int = 0  # of regions that sequences hold
    kv_capacity_bytes: int = 0
    num_steps: int = 0  # that ran tokens, since the start
    num_tokens_computed: int = 0  # prompt and output tokens, since the start
    num_tokens_generated: int = 0  # since the start
    mean_step_s: float = 0.0  # of steps that ran tokens, the latest ones weigh most
    # Through all stages, where nothing else was in flight. None, and empty: not measured yet.
    prefill_s_per_token: float | None = None
    decode_times: tuple[DecodeTime, ...] = ()


class KvTransfer(StrEnum):
    """How running sequences come to a worker that is about to serve alone."""

    MOVE = "move"  # keys and values are copied from the other stages
    RECOMPUTE = "recompute"  # their tokens are computed again


@dataclass(frozen=True)
class CopyPlan:
    """What was found when the weights were complete. Times are predictions."""

    transfer: KvTransfer
    num_sequences: int  # that run
    num_tokens: int  # of theirs, in the cache
    num_bytes: int  # of those tokens' keys and values on the other stages
    move_s: float
    recompute_s: float


@dataclass(frozen=True)
class Switched:
    """The whole model serves from now on. Times count from the last launch of the pipeline."""

    transfer: KvTransfer
    num_sequences: int
    precopied_bytes: int  # of keys and values that came before
    moved_bytes: int  # and since
    drain_s: float  # until no micro-batch was in flight
    move_s: float  # until all keys and values were there
    num_recomputed: int = 0  # sequences whose tokens are computed again


@dataclass(frozen=True)
class Pause:
    """What a request that ran saw of a switch: a whole gap between two tokens."""

    request_id: str
    pause_s: float  # from its last token of the pipeline to its first of the whole model
    usual_gap_s: float | None = None  # between its tokens before; None: it had one only


class ConsolidationEvents(Protocol):
    """What an entry stage tells of its way to the whole model, in the engine's thread."""

    def loaded(self) -> None:
        """All weights are there and the executor of the whole model is built."""

    def copying(self, plan: CopyPlan) -> None:
        """Keys and values of running sequences begin to come, if they are to be moved."""

    def freezing(self) -> None:
        """The pipeline launches nothing from now on. May be told again after `unfrozen`."""

    def unfrozen(self, why: str) -> None:
        """The pipeline goes on; the switch is tried again later."""

    def switched(self, switched: Switched) -> None:
        """The pipeline is left for good. The process is the whole endpoint."""

    def stepped(self) -> None:
        """The first tokens of the whole model are out; told at once if nobody waits for any."""

    def paused(self, pauses: tuple[Pause, ...]) -> None:
        """Whoever had a token from the pipeline and ran at the switch has the next one, or has
        ended. Told once, after `stepped`, also if there was nobody."""

    def abandoned(self, why: str) -> None:
        """The pipeline stays what it is; it may be begun again."""


class GrowthEvents(Protocol):
    """What a stage behind the entry tells of its way to the whole model."""

    def loaded(self) -> None:
        """All weights are there; it stays a stage until its ring is closed."""

    def abandoned(self, why: str) -> None:
        """It stays a stage; it may be begun again."""


class Engine(Protocol):
    """Requests in, tokens out, one step at a time: a whole model, or the entry of a pipeline.

    One thread owns it; any thread may call `add_request`, `cancel`, `wake` and read `stats`. What
    `load_units` and `step` raise concerns all requests alike: the process ends with it. An engine
    that takes long calls the hook it was given for that, or is taken for one that hangs.
    """

    @property
    def stats(self) -> EngineStats:
        """As of the end of the last step."""

    @property
    def is_idle(self) -> bool:
        """Whether steps have nothing to do until a request arrives."""

    def load_units(self) -> Iterator[None]:
        """Wait for all weights; steps may be taken whenever it yields."""

    def add_request(self, request: Request) -> None:
        """Queue a request for the next step. Raises RequestRefused if it can never be served.

        A newer attempt replaces an older one; an attempt that is already here changes nothing.
        """

    def cancel(self, request_id: str, attempt: int) -> None:
        """End that attempt, or an older one, at the next step; nothing if it is not here."""

    def step(self) -> list[Output]:
        """Take what arrived, compute, say what happened; waits a fraction of a second at most."""

    def optimize_step(self) -> bool:
        """Spend some milliseconds between two steps on making later ones faster.

        False when nothing is left to do.
        """

    def wake(self) -> None:
        """End a step's waiting early."""


class FollowerEngine(Protocol):
    """A stage behind the entry of a pipeline: computes what its neighbours send, knows no request.

    One thread owns it. What it raises ends the process. Once `has_left` the entry serves alone, and
    no step may be taken.
    """

    has_left: bool

    def load_units(self) -> Iterator[None]:
        """As of an engine."""

    def step(self, timeout_s: float) -> bool:
        """Compute the next micro-batch and pass it on; False when none came in time."""

    def optimize_step(self) -> bool:
        """As of an engine."""


class StageEvents(Protocol):
    """What a stage of a pipeline tells of its steps, in the thread that runs them.

    `is_sampled`: a next token depends on nothing that comes after it.
    """

    def received(self, *, is_sampled: bool) -> None:
        """Hidden states of the previous stage are here."""

    def leaving(self, *, is_sampled: bool) -> None:
        """This stage has computed its part; somebody waits for what it is about to send."""

    def left(self) -> None:
        """They are on their way, and nobody waits for this stage."""


class NoEvents:
    """For whom the steps of a stage are of no interest."""

    def received(self, *, is_sampled: bool) -> None:
        pass

    def leaving(self, *, is_sampled: bool) -> None:
        pass

    def left(self) -> None:
        pass
