"""What nodes and gateways last said, as of one moment: values for a round. Pure.

Times are monotonic seconds of the leader.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from libs.common.bus.messages import (
    AgentHeartbeat,
    FetcherHeartbeat,
    FetchObserved,
    GatewayHeartbeat,
    WorkerObserved,
)
from services.scheduler.policy.cluster import Endpoint, Worker
from services.scheduler.policy.liveness import Liveness, agent_of, fetcher_of
from services.scheduler.policy.nodes.lazy import cached_property

H = TypeVar("H", AgentHeartbeat, FetcherHeartbeat)


@dataclass(frozen=True)
class Heard(Generic[H]):
    heartbeat: H
    at_s: float

    def again(self, heartbeat: H, at_s: float) -> "Heard[H]":
        """The same said once more: what was found in it holds."""
        heard = Heard(heartbeat, at_s)
        heard.__dict__.update({**self.__dict__, **heard.__dict__})
        return heard

    @cached_property
    def workers(self) -> Mapping[str, WorkerObserved]:
        """Of an agent, by id."""
        seen = self.heartbeat.workers if isinstance(self.heartbeat, AgentHeartbeat) else ()
        return {worker.worker_id: worker for worker in seen}

    @cached_property
    def fetches(self) -> Mapping[str, FetchObserved]:
        """Of a fetcher, by id."""
        seen = self.heartbeat.fetches if isinstance(self.heartbeat, FetcherHeartbeat) else ()
        return {fetch.fetch_id: fetch for fetch in seen}


@dataclass(frozen=True)
class NodeProcess:
    """One of the two that speak for a node."""

    node_id: str
    kind: Literal["agent", "fetcher"]

    @classmethod
    def of(cls, heartbeat: AgentHeartbeat | FetcherHeartbeat) -> "NodeProcess":
        is_agent = isinstance(heartbeat, AgentHeartbeat)
        return cls(heartbeat.node_id, "agent" if is_agent else "fetcher")


@dataclass(frozen=True)
class Observed:
    """By node, and by gateway. Nobody changes the mappings once they are here."""

    liveness: Liveness = field(default_factory=Liveness)
    agents: Mapping[str, Heard[AgentHeartbeat]] = field(default_factory=dict)
    fetchers: Mapping[str, Heard[FetcherHeartbeat]] = field(default_factory=dict)
    gateways: Mapping[str, GatewayHeartbeat] = field(default_factory=dict)
    invalid: Mapping[NodeProcess, str] = field(default_factory=dict)  # what is wrong, in words

    def knows_all_nodes(self, acquaintance_s: float) -> bool:
        """Whether every node that lives has had the time to be heard; before, what they have
        together says nothing about what there is."""
        return self.liveness.heard_for_s >= acquaintance_s

    def is_fresh(self, node_id: str, stale_s: float) -> bool:
        """Whether both services of the node were heard lately, as far as anybody was."""
        if node_id not in self.agents or node_id not in self.fetchers:
            return False
        speakers = (agent_of(node_id), fetcher_of(node_id))
        return max(map(self.liveness.silence_s, speakers)) <= stale_s

    def silent_nodes(self, for_s: float, kinds: Collection[str] = ("agent", "fetcher")) -> set[str]:
        """Nodes of which one of these has spoken once, and then not for longer than that."""
        speakers = (speaker.partition(" ") for speaker in self.liveness.silent(for_s))
        return {node_id for kind, _, node_id in speakers if kind in kinds}

    def worker_ids(self, node_id: str) -> tuple[str, ...]:
        """Of all that its agent spoke of last."""
        heard = self.agents.get(node_id)
        return tuple(seen.worker_id for seen in heard.heartbeat.workers) if heard else ()

    def worker(self, worker: Worker) -> WorkerObserved | None:
        heard = self.agents.get(worker.node_id)
        return None if heard is None else heard.workers.get(worker.id)

    def entry(self, endpoint: Endpoint) -> WorkerObserved | None:
        """The worker that runs its requests."""
        entry = endpoint.entry
        return None if entry is None else self.worker(entry)

    def fetch(self, worker: Worker) -> FetchObserved | None:
        """The fetch that the worker's start waits for."""
        heard = self.fetchers.get(worker.node_id)
        if heard is None or worker.fetch_id is None:
            return None
        return heard.fetches.get(worker.fetch_id)
