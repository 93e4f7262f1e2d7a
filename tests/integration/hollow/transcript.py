"""What a node did in a scenario, as values that are the same for nodes that behave alike."""

from collections.abc import Iterable
from itertools import groupby, pairwise

from pydantic import BaseModel

from libs.common.bus.messages import FetchObserved, TokensGenerated, WorkerObserved
from libs.common.states import FetchState, WorkerState
from tests.integration.hollow.cluster import Cluster, Replies

# What is told while it happens, and may be over before it is: that depends on speed.
_PASSING_STATES = (FetchState.QUEUED, FetchState.FETCHING)
_LOAD = (
    *("num_running", "num_waiting", "kv_used_bytes", "kv_capacity_bytes"),
    *("step_us", "idle_ms", "progress"),
)
_MEASURED = ("compute_share", "compute_demand", "speed")  # of real processes alone


class Transcript:
    """Facts by label."""

    def __init__(self, cluster: Cluster) -> None:
        self.facts: dict[str, object] = {}
        self._cluster = cluster
        self._names: dict[str, str] = {}  # of what is random

    def name(self, value: str, as_: str) -> None:
        self._names[value] = as_

    def note(self, label: str, value: object) -> None:
        assert label not in self.facts, f"{label} twice"
        self.facts[label] = value

    def note_replies(self, label: str, replies: Replies) -> None:
        for who, reply in (("agent", replies.agent), ("fetcher", replies.fetcher)):
            refused = None if reply.refused is None else self._renamed(reply.refused)
            self.note(f"{label}: {who}", (reply.accepted_version, refused))

    def note_worker(self, worker_id: str) -> None:
        """Its whole life so far."""
        told = [w for w in self._workers() if w.worker_id == worker_id]
        last = told[-1]
        self.note(f"{worker_id}: states", _without_repeats(worker.state for worker in told))
        steps = sorted((step.name, step.detail, step.ended_at is not None) for step in last.steps)
        self.note(f"{worker_id}: steps", steps)
        self.note(f"{worker_id}: order", _order(last))
        fields = [name for name in _filled(told) if name not in (*_LOAD, *_MEASURED)]
        self.note(f"{worker_id}: fields", fields)
        self.note(f"{worker_id}: cause", None if last.cause is None else last.cause.kind)

    def note_load(self, label: str, worker: WorkerObserved) -> None:
        """Which of its figures say something now."""
        self.note(label, [name for name in _filled([worker]) if name in _LOAD])

    def note_fetch(self, fetch_id: str) -> None:
        told = [f for f in self._fetches() if f.fetch_id == fetch_id]
        last = told[-1]
        states = (fetch.state for fetch in told if fetch.state not in _PASSING_STATES)
        self.note(f"{fetch_id}: states", _without_repeats(states))
        self.note(f"{fetch_id}: steps", [step.name for step in last.steps])
        self.note(f"{fetch_id}: detail", [s.detail for s in last.steps if s.name == "fetch"])
        figures = (last.bytes_done, last.bytes_total, last.bytes_from_cache)
        self.note(f"{fetch_id}: bytes", figures)
        self.note(f"{fetch_id}: cause", None if last.cause is None else last.cause.kind)

    def note_tokens(self, label: str, parts: Iterable[TokensGenerated]) -> None:
        told = list(parts)
        indexes = [(part.start_index, len(part.ids)) for part in told if part.ids]
        expected = list(range(len(indexes)))
        self.note(f"{label}: one token a message, no gap", indexes == [(i, 1) for i in expected])
        self.note(f"{label}: ends", [part.finish for part in told if part.finish])
        self.note(f"{label}: error", told[-1].error)

    def note_heartbeats(self) -> None:
        agent, fetcher = self._cluster.agent_heartbeats, self._cluster.fetcher_heartbeats
        self.note("agent heartbeats: fields", _filled(agent))
        self.note("fetcher heartbeats: fields", _filled(fetcher))
        self.note("agent heartbeats: devices", agent[-1].devices)
        self.note("agent heartbeats: sequence", _grows([beat.sequence for beat in agent]))
        self.note("fetcher heartbeats: sequence", _grows([beat.sequence for beat in fetcher]))
        self.note("fetcher heartbeats: card", fetcher[-1].nic_bytes_per_s)
        self.note("fetcher heartbeats: most it may hold", fetcher[-1].cache_max_bytes)

    def _workers(self) -> Iterable[WorkerObserved]:
        return (worker for beat in self._cluster.agent_heartbeats for worker in beat.workers)

    def _fetches(self) -> Iterable[FetchObserved]:
        return (fetch for beat in self._cluster.fetcher_heartbeats for fetch in beat.fetches)

    def _renamed(self, text: str) -> str:
        for value, name in self._names.items():
            text = text.replace(value, name)
        return text


def _without_repeats(states: Iterable[WorkerState | FetchState]) -> list[str]:
    return [str(state) for state, _ in groupby(states)]


def _order(worker: WorkerObserved) -> list[str]:
    """Of the steps that come one after the other, by when they began."""
    chain = ("spawn", "bind", "import", "build_engine", "load", "ready")
    steps = [step for step in worker.steps if step.name in chain]
    return [step.name for step in sorted(steps, key=lambda step: step.started_at)]


def _filled(messages: Iterable[BaseModel]) -> list[str]:
    """Fields that ever had another value than the one that says nothing."""
    told = list(messages)
    empty: tuple[object, ...] = (None, 0, (), "", {})
    names = type(told[0]).model_fields
    return [name for name in names if any(getattr(one, name) not in empty for one in told)]


def _grows(numbers: list[int]) -> bool:
    return all(later == earlier + 1 for earlier, later in pairwise(numbers))
