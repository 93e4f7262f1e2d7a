"""The newest heartbeat of everybody, in memory. Lost with the process and back in a second.

Times are monotonic seconds, given by the caller.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Generic

from libs.common.bus.messages import (
    AgentHeartbeat,
    FetcherHeartbeat,
    GatewayHeartbeat,
)
from libs.common.bus.repetition import repeats
from services.scheduler.observation.invalid_nodes import InvalidNodes
from services.scheduler.observation.liveness import LivenessLog
from services.scheduler.observation.news import News, news_of_agent, news_of_fetcher
from services.scheduler.policy.liveness import agent_of, fetcher_of, gateway_of
from services.scheduler.policy.observed import H, Heard, Observed

RETIRED_BOOTS = 16  # of one process; older ones cannot still be on their way
GATEWAY_MEMORY_S = 60.0  # of silence; long before, its requests have ended


@dataclass
class NodeHeartbeats(Generic[H]):
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
        if newest is not None and repeats(heartbeat, newest.heartbeat):
            self._newest[heartbeat.node_id] = newest.again(heartbeat, now_s)
        else:
            self._newest[heartbeat.node_id] = Heard(heartbeat, now_s)
        return True

    def of(self, node_id: str) -> Heard[H] | None:
        return self._newest.get(node_id)

    def snapshot(self) -> dict[str, Heard[H]]:
        return dict(self._newest)

    def forget(self, node_id: str) -> None:
        self._newest.pop(node_id, None)
        self._retired.pop(node_id, None)

    def _retire(self, node_id: str, boot_id: str) -> None:
        self._retired.setdefault(node_id, deque(maxlen=RETIRED_BOOTS)).append(boot_id)


@dataclass
class HeartbeatLog:
    liveness: LivenessLog
    agents: NodeHeartbeats[AgentHeartbeat] = field(default_factory=NodeHeartbeats)
    fetchers: NodeHeartbeats[FetcherHeartbeat] = field(default_factory=NodeHeartbeats)
    gateways: dict[str, GatewayHeartbeat] = field(default_factory=dict)
    invalid: InvalidNodes = field(default_factory=InvalidNodes)

    def snapshot(self) -> Observed:
        """For one round: heartbeats that arrive meanwhile belong to the next."""
        return Observed(
            self.liveness.snapshot(),
            self.agents.snapshot(),
            self.fetchers.snapshot(),
            dict(self.gateways),
            self.invalid.snapshot(),
        )

    def snapshot_of_gateways(self, before: Observed) -> Observed:
        """With what nodes had said in `before`: what they have said since belongs to a later
        round."""
        return replace(before, liveness=self.liveness.snapshot(), gateways=dict(self.gateways))

    def accept_agent(self, heartbeat: AgentHeartbeat, now_s: float) -> News | None:
        """What it says that a decision could depend on, if anything; an invalid one does not."""
        before = self.agents.of(heartbeat.node_id)
        if not self.invalid.admits(heartbeat, before) or not self.agents.accept(heartbeat, now_s):
            return None
        self.liveness.hear(agent_of(heartbeat.node_id), now_s)
        return news_of_agent(heartbeat, None if before is None else before.heartbeat)

    def accept_fetcher(self, heartbeat: FetcherHeartbeat, now_s: float) -> News | None:
        """What it says that a decision could depend on, if anything; an invalid one does not."""
        before = self.fetchers.of(heartbeat.node_id)
        if not self.invalid.admits(heartbeat, before) or not self.fetchers.accept(heartbeat, now_s):
            return None
        self.liveness.hear(fetcher_of(heartbeat.node_id), now_s)
        return news_of_fetcher(heartbeat, None if before is None else before.heartbeat)

    def accept_gateway(self, heartbeat: GatewayHeartbeat, now_s: float) -> frozenset[str]:
        """Requests of which it says for the first time that their attempt has had a token."""
        before = self.gateways.get(heartbeat.gateway_id)
        known = {} if before is None else before.progressed
        self.gateways[heartbeat.gateway_id] = heartbeat
        self.liveness.hear(gateway_of(heartbeat.gateway_id), now_s)
        self._forget_gateways()
        return frozenset(id_ for id_, _ in heartbeat.progressed.items() - known.items())

    def knows_all_nodes(self, acquaintance_s: float) -> bool:
        """Whether every node that lives has had the time to be heard."""
        return self.liveness.heard_for_s >= acquaintance_s

    def node_silence_s(self, node_id: str) -> float:
        """Of both its processes, also where they say what cannot be taken in."""
        if self.invalid.has_heard(node_id):
            return 0.0
        speakers = (agent_of(node_id), fetcher_of(node_id))
        return min(map(self.liveness.silence_s, speakers))

    def forget_nodes(self, node_ids: Iterable[str]) -> None:
        """Whoever of them speaks again is a new node."""
        for node_id in node_ids:
            self.agents.forget(node_id)
            self.fetchers.forget(node_id)
            self.liveness.forget(agent_of(node_id))
            self.liveness.forget(fetcher_of(node_id))

    def _forget_gateways(self) -> None:
        """Each start of a gateway is another one."""
        for speaker in map(gateway_of, list(self.gateways)):
            if self.liveness.silence_s(speaker) > GATEWAY_MEMORY_S:
                self.liveness.forget(speaker)
                del self.gateways[speaker.removeprefix(gateway_of(""))]
