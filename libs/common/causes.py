"""Why something ended or failed: a kind with facts, made where the fault is seen.

What is decided depends on the kind alone: whose fault it is (back-off, suspicion, attempts), and
whether it was only felt from somebody else's end. Words for people are made at the edge, by
`words`. Stdlib only: the worker process imports it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Fact = str | int | float | bool


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
    """The facts of each kind stand beside it, as `words` uses them; all are optional."""

    # Seen by the scheduler.
    NODE_LOST = "node_lost"  # node_id
    AGENT_RESTARTED = "agent_restarted"  # node_id
    FETCHER_SILENT = "fetcher_silent"  # node_id
    WORKER_VANISHED = "worker_vanished"  # worker_id, node_id
    STAGE_SILENT = "stage_silent"  # worker_id, node_id: only its neighbours speak of its end
    STAGES_SEPARATED = "stages_separated"  # they lost each other, nobody can say who began
    START_STALLED = "start_stalled"  # progress
    CONTEXT_OUTGROWN = "context_outgrown"
    NOBODY_WAITED = "nobody_waited"
    # Seen by the agent.
    LAUNCH_FAILED = "launch_failed"  # detail
    PROCESS_EXITED = "process_exited"  # code or signal, last_words
    PROCESS_HUNG = "process_hung"  # what, seconds, step
    START_TIMED_OUT = "start_timed_out"  # seconds, step
    PROTOCOL_BROKEN = "protocol_broken"  # detail
    CONNECTION_CLOSED = "connection_closed"
    AGENT_FAILED = "agent_failed"  # detail
    # Seen by the worker process.
    ENGINE_FAILED = "engine_failed"  # detail
    DEVICE_FAILED = "device_failed"  # detail
    NEIGHBOUR_LOST = "neighbour_lost"  # stage, detail: felt, not begun here
    NEIGHBOUR_STALLED = "neighbour_stalled"  # seconds: the next stage took nothing
    NEIGHBOUR_MISSING = "neighbour_missing"  # seconds: not linked in time
    WEIGHTS_UNAVAILABLE = "weights_unavailable"  # detail: its fetcher says why
    # Seen by the fetcher.
    UNIT_MISSING = "unit_missing"  # key
    UNIT_CORRUPT = "unit_corrupt"  # key, detail
    STORE_UNREACHABLE = "store_unreachable"  # key, detail
    STORE_REFUSED = "store_refused"  # key, detail
    MANIFEST_INVALID = "manifest_invalid"  # key, detail
    HOST_CACHE_FULL = "host_cache_full"  # needed_bytes, capacity_bytes, …
    SHARED_MEMORY_FULL = "shared_memory_full"  # needed_bytes, …
    FETCHER_FAILED = "fetcher_failed"  # detail
    # Of an earlier version of this software, or not foreseen.
    UNKNOWN = "unknown"  # detail


@dataclass(frozen=True)
class Cause:
    """Compared by value; `facts` are few and small."""

    kind: CauseKind
    facts: Mapping[str, Fact] = field(default_factory=dict)

    def __str__(self) -> str:
        return words(self)

    @property
    def fault(self) -> Fault:
        return FAULTS[self.kind]

    @property
    def is_echo(self) -> bool:
        """Somebody else's end, as it was felt here: the root is to be looked for elsewhere."""
        return self.kind in ECHOES

    def with_facts(self, **facts: Fact) -> "Cause":
        return Cause(self.kind, {**self.facts, **facts})


FAULTS: Mapping[CauseKind, Fault] = {
    CauseKind.NODE_LOST: Fault.NODE,
    CauseKind.AGENT_RESTARTED: Fault.NODE,
    CauseKind.FETCHER_SILENT: Fault.NODE,
    CauseKind.WORKER_VANISHED: Fault.MODEL,
    CauseKind.STAGE_SILENT: Fault.MODEL,
    CauseKind.STAGES_SEPARATED: Fault.NETWORK,
    CauseKind.START_STALLED: Fault.MODEL,
    CauseKind.CONTEXT_OUTGROWN: Fault.OPERATOR,
    CauseKind.NOBODY_WAITED: Fault.OPERATOR,
    CauseKind.LAUNCH_FAILED: Fault.NODE,
    CauseKind.PROCESS_EXITED: Fault.MODEL,
    CauseKind.PROCESS_HUNG: Fault.MODEL,
    CauseKind.START_TIMED_OUT: Fault.MODEL,
    CauseKind.PROTOCOL_BROKEN: Fault.BUG,
    CauseKind.CONNECTION_CLOSED: Fault.MODEL,
    CauseKind.AGENT_FAILED: Fault.BUG,
    CauseKind.ENGINE_FAILED: Fault.MODEL,
    CauseKind.DEVICE_FAILED: Fault.NODE,
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


def words(cause: Cause) -> str:
    """One sentence for people: what happened, with the facts."""
    known = ", ".join(f"{name} {value}" for name, value in cause.facts.items())
    said = cause.kind.value.replace("_", " ")
    return f"{said} ({known})" if known else said
