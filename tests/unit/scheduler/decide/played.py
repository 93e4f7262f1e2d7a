"""Small clusters that play along with `decide`: endpoints start, serve and end as nodes would."""

from dataclasses import dataclass, field
from typing import Any

from libs.common.states import EndpointState, WorkerState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.changes import SWEEP
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.decide import decide_round
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.scaling.traffic_changes import with_traffic
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.snapshots import SmallCluster, a_request

KEPT = ("activities", "commands", "unasked", "traffic", "needs", "queue", "swept", "places")


@dataclass
class PlayedCluster:
    """A sweep each step. Every start takes `start_s`, every request `service_s`."""

    cluster: SmallCluster
    start_s: float = 5.0
    service_s: float = 1.0
    step_s: float = 0.5
    snapshot_fields: dict[str, Any] = field(default_factory=dict)  # beside what a cluster has
    snapshot: Snapshot = field(init=False)
    decided: list[d.Decision] = field(default_factory=list)  # in all steps
    waits_s: dict[str, float] = field(default_factory=dict)  # of requests that were served
    _begun_s: dict[str, float] = field(default_factory=dict)  # starts, and requests that run
    _idle_since_s: dict[str, float] = field(default_factory=dict)
    _num_steps: int = 0

    def __post_init__(self) -> None:
        self.snapshot = self.cluster.snapshot()

    @property
    def now_s(self) -> float:
        return self.cluster.now_s

    def ask(self, model_id: str) -> None:
        """Now."""
        name = f"of-{model_id}-{len(self.waits_s)}-{len(self.cluster.requests)}-{self._num_steps}"
        now_s = self.now_s
        request = a_request(name, model_id, arrived_at_s=now_s, deadline_at_s=now_s + 10_000.0)
        self.cluster.add_request(request)

    def play(self, seconds: float) -> list[d.Decision]:
        """What is decided meanwhile."""
        since, until_s = len(self.decided), self.now_s + seconds
        while self.now_s < until_s - 1e-9:
            self.step()
        return self.decided[since:]

    def step(self) -> None:
        self.cluster.now_s += self.step_s
        self._num_steps += 1
        for endpoint in tuple(self.cluster.endpoints.values()):
            self._move(endpoint)
        kept = {name: getattr(self.snapshot, name) for name in KEPT}
        fields = {**kept, **self.snapshot_fields}
        now = self.cluster.snapshot(nonce=f"round {self._num_steps}", **fields)
        decided = decide_round(with_traffic(self.snapshot, now), SWEEP, NodeMemo())
        assert not [x for x in decided.decisions if isinstance(x, d.SkipModel)]
        self.decided += decided.decisions
        self.snapshot = decided.snapshot
        self.cluster.follow(decided.snapshot)

    def live(self, model_id: str) -> list[Endpoint]:
        found = self.snapshot.endpoints.by("model", model_id)
        return [endpoint for endpoint in found if endpoint.state.can_take_requests]

    def _move(self, endpoint: Endpoint) -> None:
        if endpoint.state is EndpointState.STARTING:
            begun_s = self._begun_s.setdefault(endpoint.id, self.now_s)
            if self.now_s - begun_s >= self.start_s:
                self._serve(endpoint, WorkerState.READY)
        elif endpoint.is_released:
            self.cluster.hear_ready(endpoint, state=WorkerState.STOPPED)
        elif endpoint.state is EndpointState.DRAINING:
            self._serve(endpoint, WorkerState.DRAINING)
        elif endpoint.state.is_serving:
            self._serve(endpoint, WorkerState.READY)

    def _serve(self, endpoint: Endpoint, state: WorkerState) -> None:
        assigned = [r for r in self.cluster.requests.values() if r.endpoint_id == endpoint.id]
        for request in assigned:
            begun_s = self._begun_s.setdefault(request.id, self.now_s)
            self.waits_s.setdefault(request.id, begun_s - request.arrived_at_s)
            if self.now_s - begun_s >= self.service_s:
                del self.cluster.requests[request.id]
                self._idle_since_s[endpoint.id] = self.now_s
        num_running = sum(r.id in self.cluster.requests for r in assigned)
        since_s = self._idle_since_s.setdefault(endpoint.id, self.now_s)
        idle_ms = 0 if num_running else round(1000 * (self.now_s - since_s))
        self.cluster.hear_ready(endpoint, state=state, num_running=num_running, idle_ms=idle_ms)
