"""What the nodes and gateways last said, in memory. Lost with the process and back in a second.

Times are monotonic seconds, given by the caller.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from libs.common.bus.messages import (
    AgentHeartbeat,
    FetcherHeartbeat,
    FetchObserved,
    GatewayHeartbeat,
    WorkerObserved,
)
from services.scheduler.observation.liveness import Hearing
from services.scheduler.policy.cluster import Endpoint

RETIRED_BOOTS = 16  # of one process; older ones cannot still be on their way
GATEWAY_MEMORY_S = 60.0  # of silence; long before, its requests have ended

H = TypeVar("H", AgentHeartbeat, FetcherHeartbeat)


@dataclass(frozen=True)
class Heard(Generic[H]):
    heartbeat: H
    at_s: float


@dataclass
class HeartbeatLog(Generic[H]):
    """The newest heartbeat of one process kind, per node; stale boots and sequences are refused."""

    _newest: dict[str, Heard[H]] = field(default_factory=dict)
    _retired: dict[str, deque[str]] = field(default_factory=dict)

    def accept(self, heartbeat: H, now_s: float) -> bool:
        """Keep it unless something newer is known."""
        newest = self._newest.get(heartbeat.node_id)
        if heartbeat.boot_id in self._retired.get(heartbeat.node_id, ()):
            return False
        if newest is not None and newest.heartbeat.boot_id == heartbeat.boot_id:
            if heartbeat.sequence <= newest.heartbeat.sequence:
                return False
        elif newest is not None:
            self._retire(heartbeat.node_id, newest.heartbeat.boot_id)
        self._newest[heartbeat.node_id] = Heard(heartbeat, now_s)
        return True

    def copy(self) -> "HeartbeatLog[H]":
        return HeartbeatLog(dict(self._newest), self._retired)

    def of(self, node_id: str) -> Heard[H] | None:
        return self._newest.get(node_id)

    def node_ids(self) -> tuple[str, ...]:
        return tuple(self._newest)

    def is_fresh(self, node_id: str, now_s: float, stale_s: float) -> bool:
        heard = self._newest.get(node_id)
        return heard is not None and now_s - heard.at_s <= stale_s

    def _retire(self, node_id: str, boot_id: str) -> None:
        self._retired.setdefault(node_id, deque(maxlen=RETIRED_BOOTS)).append(boot_id)


@dataclass
class Observed:
    hearing: Hearing
    agents: HeartbeatLog[AgentHeartbeat] = field(default_factory=HeartbeatLog)
    fetchers: HeartbeatLog[FetcherHeartbeat] = field(default_factory=HeartbeatLog)
    gateways: dict[str, GatewayHeartbeat] = field(default_factory=dict)

    def snapshot(self) -> "Observed":
        """For one round: heartbeats that arrive meanwhile belong to the next."""
        hearing = self.hearing.copy()
        return Observed(hearing, self.agents.copy(), self.fetchers.copy(), dict(self.gateways))

    def hear_agent(self, heartbeat: AgentHeartbeat, now_s: float) -> bool:
        """Whether it says anything that a decision could depend on."""
        before = self.agents.of(heartbeat.node_id)
        if not self.agents.accept(heartbeat, now_s):
            return False
        self.hearing.hear(agent_of(heartbeat.node_id), now_s)
        return before is None or _agent_facts(before.heartbeat) != _agent_facts(heartbeat)

    def hear_fetcher(self, heartbeat: FetcherHeartbeat, now_s: float) -> bool:
        """Whether it says anything that a decision could depend on."""
        before = self.fetchers.of(heartbeat.node_id)
        if not self.fetchers.accept(heartbeat, now_s):
            return False
        self.hearing.hear(fetcher_of(heartbeat.node_id), now_s)
        return before is None or _fetcher_facts(before.heartbeat) != _fetcher_facts(heartbeat)

    def hear_gateway(self, heartbeat: GatewayHeartbeat, now_s: float) -> None:
        self.gateways[heartbeat.gateway_id] = heartbeat
        self.hearing.hear(gateway_of(heartbeat.gateway_id), now_s)
        self._forget_gateways()

    def _forget_gateways(self) -> None:
        """Each start of a gateway is another one."""
        for speaker in map(gateway_of, list(self.gateways)):
            if self.hearing.silence_s(speaker) > GATEWAY_MEMORY_S:
                self.hearing.forget(speaker)
                del self.gateways[speaker.removeprefix(gateway_of(""))]

    def knows_all_nodes(self, acquaintance_s: float) -> bool:
        """Whether every node that lives has had the time to be heard; before, what they have
        together says nothing about what there is."""
        return self.hearing.heard_for_s >= acquaintance_s

    def worker(self, node_id: str, worker_id: str) -> WorkerObserved | None:
        heard = self.agents.of(node_id)
        workers = heard.heartbeat.workers if heard else ()
        return next((worker for worker in workers if worker.worker_id == worker_id), None)

    def entry(self, endpoint: Endpoint) -> WorkerObserved | None:
        """The worker that runs its requests."""
        if not endpoint.workers:
            return None
        entry = endpoint.workers[0]
        return self.worker(entry.node_id, entry.id)

    def fetch(self, node_id: str, fetch_id: str | None) -> FetchObserved | None:
        heard = self.fetchers.of(node_id)
        fetches = heard.heartbeat.fetches if heard else ()
        return next((fetch for fetch in fetches if fetch.fetch_id == fetch_id), None)


def agent_of(node_id: str) -> str:
    return f"agent {node_id}"


def fetcher_of(node_id: str) -> str:
    return f"fetcher {node_id}"


def gateway_of(gateway_id: str) -> str:
    return f"gateway {gateway_id}"


def _agent_facts(heartbeat: AgentHeartbeat) -> object:
    workers = tuple(
        (w.worker_id, w.state, w.num_running + w.num_waiting == 0, len(w.steps))
        for w in heartbeat.workers
    )
    return (heartbeat.boot_id, heartbeat.accepted_version, heartbeat.devices, workers)


def _fetcher_facts(heartbeat: FetcherHeartbeat) -> object:
    fetches = tuple((f.fetch_id, f.state) for f in heartbeat.fetches)
    return (heartbeat.boot_id, heartbeat.accepted_version, fetches)
