"""Why something ended or failed: a kind with facts, made where the fault is seen.

What is decided depends on the kind alone: whose fault it is (back-off, suspicion, attempts), and
whether it was only felt from somebody else's end. Words for people are made of it at the edge, by
`cause_words.words`. Stdlib only: the worker process imports it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Fact = str | int | float | bool

MAX_FACTS = 12
MAX_NAME_CHARACTERS = 40
MAX_TEXT_CHARACTERS = 1000
_MAX_WHOLE_NUMBER = 2**63 - 1  # as large as a column may be


class Fault(StrEnum):
    """Who has to change for it not to happen again."""

    REQUEST = "request"
    MODEL = "model"
    NODE = "node"
    NETWORK = "network"
    STORE = "store"  # the object store, or what lies in it
    OPERATOR = "operator"  # asked for on purpose
    BUG = "bug"  # ours


class CauseKind(StrEnum):
    """The facts of each kind stand beside it, as its words use them; all are optional.

    What has to do with one worker has `worker_id` and `node_id` too, once the scheduler knows it.
    """

    # Seen by the scheduler.
    NODE_LOST = "node_lost"  # node_id
    NODE_SILENT = "node_silent"  # worker_id, node_id, felt: so are others, who only speak of it
    AGENT_RESTARTED = "agent_restarted"  # node_id
    FETCHER_SILENT = "fetcher_silent"  # node_id
    WORKER_VANISHED = "worker_vanished"  # worker_id, node_id
    WORKER_ENDED = "worker_ended"  # state: by itself, and nobody says why
    STAGE_SILENT = "stage_silent"  # worker_id, node_id, felt: only its neighbours speak of its end
    STAGES_SEPARATED = "stages_separated"  # felt: they lost each other, nobody knows who began
    START_STALLED = "start_stalled"  # progress
    STALE_CONTEXT = "stale_context"
    NOBODY_WAITED = "nobody_waited"
    # Seen by the agent.
    LAUNCH_FAILED = "launch_failed"  # detail
    PROCESS_EXITED = "process_exited"  # code or signal, last_words
    PROCESS_UNWATCHED = "process_unwatched"  # detail, last_words: it was killed for that
    PROCESS_HUNG = "process_hung"  # own_stage, seconds, step
    ENGINE_HUNG = "engine_hung"  # own_stage, seconds, step
    START_TIMED_OUT = "start_timed_out"  # own_stage, seconds, step
    PROTOCOL_BROKEN = "protocol_broken"  # by, detail
    CONNECTION_CLOSED = "connection_closed"
    AGENT_FAILED = "agent_failed"  # detail
    # Seen by the worker process.
    ENGINE_FAILED = "engine_failed"  # detail
    DEVICE_FAILED = "device_failed"  # detail
    RESERVATION_TOO_SMALL = "reservation_too_small"  # reserved_bytes, needed_bytes
    DATA_PORT_REFUSED = "data_port_refused"  # detail
    NEIGHBOUR_LOST = "neighbour_lost"  # own_stage, stage (the lost one), detail
    NEIGHBOUR_STALLED = "neighbour_stalled"  # seconds: the next stage took nothing
    NEIGHBOUR_MISSING = "neighbour_missing"  # own_stage, seconds: not linked in time
    WEIGHTS_UNAVAILABLE = "weights_unavailable"  # detail: its fetcher says why
    # Seen by the fetcher.
    UNIT_MISSING = "unit_missing"  # key
    UNIT_CORRUPT = "unit_corrupt"  # key, detail
    STORE_UNREACHABLE = "store_unreachable"  # key, detail
    STORE_REFUSED = "store_refused"  # key, detail
    MANIFEST_INVALID = "manifest_invalid"  # detail
    HOST_CACHE_FULL = "host_cache_full"  # needed_bytes, capacity_bytes, used_bytes, held_bytes
    SHARED_MEMORY_FULL = "shared_memory_full"  # needed_bytes, folder, free_bytes, size_bytes, …
    HOST_CALL_FAILED = "host_call_failed"  # detail: the node's system refused one
    FETCHER_FAILED = "fetcher_failed"  # detail
    # Of an earlier version of this software, or not foreseen.
    UNKNOWN = "unknown"  # detail


@dataclass(frozen=True)
class Cause:
    """Compared by value; `facts` are few and small, and fit to be stored and sent.

    Raises ValueError for others; `Cause.of` makes them fit.
    """

    kind: CauseKind
    facts: Mapping[str, Fact] = field(default_factory=dict, hash=False)

    # Read by pydantic, where a message has one.
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - an annotation would make it a field

    def __post_init__(self) -> None:
        if len(self.facts) > MAX_FACTS:
            raise ValueError(f"a cause has at most {MAX_FACTS} facts, not {len(self.facts)}")
        for name, value in self.facts.items():
            if not name.isidentifier() or len(name) > MAX_NAME_CHARACTERS:
                raise ValueError(f"no name of a fact: {name[:MAX_NAME_CHARACTERS]!r}")
            if (trouble := _trouble(value)) is not None:
                raise ValueError(f"fact {name} {trouble}")

    @staticmethod
    def of(kind: CauseKind, /, **facts: Fact | None) -> "Cause":
        """Of facts as they come: long texts lose their end, of too many the last stay.

        None: not known.
        """
        known = [(name, _fit(value)) for name, value in facts.items() if value is not None]
        return Cause(kind, dict(known[-MAX_FACTS:]))

    def with_facts(self, /, **facts: Fact | None) -> "Cause":
        return Cause.of(self.kind, **{**self.facts, **facts})

    @property
    def fault(self) -> Fault:
        return FAULTS[self.kind]

    @property
    def counts_against_model(self) -> bool:
        """Whether it says that the model itself cannot be started, here or elsewhere."""
        return self.fault not in (Fault.NODE, Fault.NETWORK)

    @property
    def is_echo(self) -> bool:
        """Somebody else's end, as it was felt here: the root is to be looked for elsewhere."""
        return self.kind in ECHOES


def _trouble(value: Fact) -> str | None:
    if isinstance(value, str):
        if len(value) > MAX_TEXT_CHARACTERS:
            return f"has {len(value)} characters, the limit is {MAX_TEXT_CHARACTERS}"
        return None if value == _storable(value) else "has characters that no column holds"
    if isinstance(value, float):
        return None if math.isfinite(value) else "is no finite number"
    if not isinstance(value, int):
        return f"is a {type(value).__name__}"
    return None if abs(value) <= _MAX_WHOLE_NUMBER else "is too large a number"


def _fit(value: Fact) -> Fact:
    if isinstance(value, str):
        return _storable(value)[:MAX_TEXT_CHARACTERS]
    return value if _trouble(value) is None else str(value)[:MAX_TEXT_CHARACTERS]


def _storable(text: str) -> str:
    """Postgres refuses NUL, and UTF-8 has no lone surrogates."""
    return text.replace("\x00", "").encode(errors="replace").decode()


FAULTS: Mapping[CauseKind, Fault] = {
    CauseKind.NODE_LOST: Fault.NODE,
    CauseKind.NODE_SILENT: Fault.NODE,
    CauseKind.AGENT_RESTARTED: Fault.NODE,
    CauseKind.FETCHER_SILENT: Fault.NODE,
    CauseKind.WORKER_VANISHED: Fault.MODEL,
    CauseKind.WORKER_ENDED: Fault.MODEL,
    CauseKind.STAGE_SILENT: Fault.MODEL,
    CauseKind.STAGES_SEPARATED: Fault.NETWORK,
    CauseKind.START_STALLED: Fault.MODEL,
    CauseKind.STALE_CONTEXT: Fault.OPERATOR,
    CauseKind.NOBODY_WAITED: Fault.OPERATOR,
    CauseKind.LAUNCH_FAILED: Fault.NODE,
    CauseKind.PROCESS_EXITED: Fault.MODEL,
    CauseKind.PROCESS_UNWATCHED: Fault.NODE,
    CauseKind.PROCESS_HUNG: Fault.MODEL,
    CauseKind.ENGINE_HUNG: Fault.MODEL,
    CauseKind.START_TIMED_OUT: Fault.MODEL,
    CauseKind.PROTOCOL_BROKEN: Fault.BUG,
    CauseKind.CONNECTION_CLOSED: Fault.MODEL,
    CauseKind.AGENT_FAILED: Fault.BUG,
    CauseKind.ENGINE_FAILED: Fault.MODEL,
    CauseKind.DEVICE_FAILED: Fault.NODE,
    CauseKind.RESERVATION_TOO_SMALL: Fault.BUG,
    CauseKind.DATA_PORT_REFUSED: Fault.NODE,
    CauseKind.NEIGHBOUR_LOST: Fault.NETWORK,
    CauseKind.NEIGHBOUR_STALLED: Fault.NETWORK,
    CauseKind.NEIGHBOUR_MISSING: Fault.NETWORK,
    CauseKind.WEIGHTS_UNAVAILABLE: Fault.STORE,
    CauseKind.UNIT_MISSING: Fault.STORE,
    CauseKind.UNIT_CORRUPT: Fault.STORE,
    CauseKind.STORE_UNREACHABLE: Fault.STORE,
    CauseKind.STORE_REFUSED: Fault.STORE,
    CauseKind.MANIFEST_INVALID: Fault.STORE,
    CauseKind.HOST_CACHE_FULL: Fault.NODE,
    CauseKind.SHARED_MEMORY_FULL: Fault.NODE,
    CauseKind.HOST_CALL_FAILED: Fault.NODE,
    CauseKind.FETCHER_FAILED: Fault.BUG,
    CauseKind.UNKNOWN: Fault.BUG,
}
ECHOES = frozenset(
    {
        CauseKind.NEIGHBOUR_LOST,
        CauseKind.NEIGHBOUR_STALLED,
        CauseKind.NEIGHBOUR_MISSING,
        CauseKind.WEIGHTS_UNAVAILABLE,
    }
)
