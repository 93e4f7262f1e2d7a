"""Random histories of a small cluster, as a leader goes through them: it keeps the snapshot from
round to round, and is told what has changed."""

import random
from dataclasses import dataclass, field, replace
from typing import Any

from libs.common.bus.messages import (
    AgentHeartbeat,
    FetcherHeartbeat,
    FetchObserved,
    GatewayHeartbeat,
    WorkerObserved,
)
from libs.common.causes import Cause, CauseKind
from libs.common.states import FetchState, ModelState, WorkerState
from services.scheduler.observation.news import News, news_of_agent, news_of_fetcher
from services.scheduler.policy.changes import Changed
from services.scheduler.policy.cluster import Endpoint, OpenRequest, RequestLoss
from services.scheduler.policy.liveness import Liveness, agent_of, fetcher_of, gateway_of
from services.scheduler.policy.observed import Heard, Observed
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.snapshots import SmallCluster, a_model, a_request
from tests.unit.scheduler.values import summary

GATEWAYS = ("gateway-1", "gateway-2")
KINDS = (CauseKind.PROCESS_EXITED, CauseKind.LAUNCH_FAILED, CauseKind.NODE_LOST)


@dataclass
class History:
    """What happens is drawn; whatever a real leader is told of is in `changed`."""

    rng: random.Random
    num_nodes: int = 4
    num_models: int = 8
    snapshot: Snapshot = field(init=False)
    elapsed_s: float = 100.0
    changed: dict[str, set[str]] = field(
        default_factory=lambda: {x: set() for x in ("nodes", "spoke", "endpoints", "models")}
    )
    agents: dict[str, Heard[AgentHeartbeat]] = field(init=False)
    fetchers: dict[str, Heard[FetcherHeartbeat]] = field(init=False)
    heard_s: dict[str, float] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)  # speakers
    _num_requests: int = 0

    def __post_init__(self) -> None:
        made = SmallCluster()
        for i in range(self.num_nodes):
            made.add_node(f"node-{i}", memory_bytes=self.rng.choice([700, 1500]))
        for i in range(self.num_models):
            changes = {
                "tenant": f"tenant-{i % 3}",
                "keep_alive_s": self.rng.choice([2.0, 10.0, 60.0]),
                "max_endpoints": self.rng.randint(1, 2),
                "max_pipeline_size": self.rng.randint(1, 2),
            }
            made.add_model(a_model(f"model-{i}", **changes), summary())
        self.snapshot = made.snapshot()
        self.agents, self.fetchers = dict(self.snapshot.observed.agents), {}
        self.fetchers |= self.snapshot.observed.fetchers

    # ------------------------------------------------------------------ a round

    def next_round(self, number: int, *, is_sweep: bool) -> tuple[Snapshot, Changed]:
        """Some things happen, and a round begins."""
        for _ in range(self.rng.randint(0, 6)):
            self._happen()
        self.silent = {speaker for speaker in self.silent if self.rng.random() < 0.7}
        seconds = self.rng.choice([0.1, 0.5, 1.0, 1.0, 4.0])
        self.elapsed_s += seconds
        now_s = self.snapshot.now_s + seconds
        self._speak(now_s)
        self.snapshot = self.snapshot.changed(
            now_s=now_s, nonce=f"round {number}", observed=self._observed()
        )
        told = {kind: frozenset(ids) for kind, ids in self.changed.items()}
        for ids in self.changed.values():
            ids.clear()
        changed = Changed(**told, is_sweep=is_sweep, is_continued=self.rng.random() < 0.5)
        return self.snapshot, changed

    def _speak(self, now_s: float) -> None:
        for node_id in self.agents:
            if agent_of(node_id) not in self.silent:
                self.agents[node_id] = Heard(self.agents[node_id].heartbeat, now_s)
                self.heard_s[agent_of(node_id)] = self.elapsed_s
            if fetcher_of(node_id) not in self.silent:
                self.fetchers[node_id] = Heard(self.fetchers[node_id].heartbeat, now_s)
                self.heard_s[fetcher_of(node_id)] = self.elapsed_s
        for gateway_id in GATEWAYS:
            if gateway_of(gateway_id) not in self.silent:
                self.heard_s[gateway_of(gateway_id)] = self.elapsed_s

    def _observed(self) -> Observed:
        listed = {id_: tuple(self.snapshot.requests.ids("gateway", id_)) for id_ in GATEWAYS}
        return Observed(
            Liveness(self.elapsed_s, dict(self.heard_s)),
            dict(self.agents),
            dict(self.fetchers),
            {id_: GatewayHeartbeat(gateway_id=id_, request_ids=ids) for id_, ids in listed.items()},
        )

    # ------------------------------------------------------------- what happens

    def _happen(self) -> None:
        kinds = ("request", "end", "ready", "ready", "gone", "work", "rest", "rest")
        rare = ("speaker", "model", "model", "loss", "deadline", "fail", "fail")
        what = self.rng.choice(kinds if self.rng.random() < 0.85 else rare)
        getattr(self, f"_{what}")()

    def _any_endpoint(self) -> Endpoint | None:
        found = list(self.snapshot.endpoints)
        return self.rng.choice(found) if found else None

    def _any_request(self) -> OpenRequest | None:
        found = list(self.snapshot.requests)
        return self.rng.choice(found) if found else None

    def _put_request(self, id_: str, model_id: str, request: OpenRequest | None) -> None:
        requests = self.snapshot.requests.updated({id_: request})
        self.snapshot = self.snapshot.changed(requests=requests)
        self.changed["models"].add(model_id)

    def _request(self) -> None:
        self._num_requests += 1
        now_s, model_id = self.snapshot.now_s, self.rng.choice(sorted(self.snapshot.models))
        request = a_request(
            *(f"request-{self._num_requests}", model_id),
            gateway_id=self.rng.choice(GATEWAYS),
            arrived_at_s=now_s,
            deadline_at_s=now_s + self.rng.choice([5.0, 40.0, 600.0]),
        )
        self._put_request(request.id, model_id, request)

    def _end(self) -> None:
        request = self._any_request()
        if request is not None:
            self._put_request(request.id, request.model_id, None)

    def _deadline(self) -> None:
        """Its row says another one, and is read again."""
        request = self._any_request()
        if request is not None:
            moved = replace(request, deadline_at_s=self.snapshot.now_s + 3.0)
            self._put_request(request.id, request.model_id, moved)

    def _loss(self) -> None:
        """Its gateway comes again after it could not reach the endpoint."""
        request = self._any_request()
        if request is None or request.endpoint_id is None:
            return
        loss = RequestLoss(request.endpoint_id, self.snapshot.now_s, has_progressed=False)
        again = replace(
            *(request,),
            attempt=request.attempt + 1,
            endpoint_id=None,
            losses=(*request.losses, loss),
        )
        self._put_request(request.id, request.model_id, again)
        self.changed["endpoints"].add(loss.endpoint_id)

    def _model(self) -> None:
        model_id = self.rng.choice(sorted(self.snapshot.models))
        model = self.snapshot.models[model_id]
        states = [*[ModelState.READY] * 6, ModelState.IMPORTING, ModelState.DELETING]
        changes: dict[str, Any] = {
            "keep_alive_s": self.rng.choice([1.0, 30.0]),
            "max_endpoints": self.rng.randint(1, 3),
            "state": self.rng.choice(states),
        }
        models = {**self.snapshot.models, model_id: replace(model, **changes)}
        self.snapshot = self.snapshot.changed(models=models)
        self.changed["models"].add(model_id)

    def _speaker(self) -> None:
        nodes = [of(id_) for id_ in self.agents for of in (agent_of, fetcher_of)]
        speaker = self.rng.choice([*nodes, *map(gateway_of, GATEWAYS)])
        self.silent.add(speaker)

    def _ready(self) -> None:
        self._hear(WorkerState.READY)

    def _work(self) -> None:
        self._hear(WorkerState.READY, num_running=1)

    def _rest(self) -> None:
        self._hear(WorkerState.READY, idle_ms=self.rng.choice([0, 1000, 2500]))

    def _fail(self) -> None:
        self._hear(WorkerState.FAILED, cause=Cause(self.rng.choice(KINDS)))

    def _gone(self) -> None:
        """Agents stop what nobody desires."""
        for endpoint in self.snapshot.endpoints:
            if endpoint.is_released:
                for worker in endpoint.workers:
                    self._hear_worker(endpoint, worker.id, worker.node_id, WorkerState.STOPPED)

    def _hear(self, state: WorkerState, **facts: Any) -> None:
        endpoint = self._any_endpoint()
        if endpoint is None:
            return
        for worker in endpoint.workers:
            self._hear_worker(endpoint, worker.id, worker.node_id, state, **facts)
            done = FetchObserved(fetch_id=worker.fetch_id or "", state=FetchState.COMPLETE)
            beat = self.fetchers[worker.node_id].heartbeat
            others = tuple(f for f in beat.fetches if f.fetch_id != done.fetch_id)
            said = beat.model_copy(update={"fetches": (*others, done)})
            self._note(worker.node_id, news_of_fetcher(said, beat))
            self.fetchers[worker.node_id] = Heard(said, self.snapshot.now_s)

    def _hear_worker(
        self, endpoint: Endpoint, worker_id: str, node_id: str, state: WorkerState, **facts: Any
    ) -> None:
        if agent_of(node_id) in self.silent:
            return
        seen = WorkerObserved(
            worker_id=worker_id,
            endpoint_id=endpoint.id,
            state=state,
            address="tcp://127.0.0.1:1",
            public_key="k" * 40,
            **facts,
        )
        beat = self.agents[node_id].heartbeat
        others = tuple(w for w in beat.workers if w.worker_id != worker_id)
        said = beat.model_copy(update={"workers": (*others, seen)})
        self._note(node_id, news_of_agent(said, beat))
        self.agents[node_id] = Heard(said, self.snapshot.now_s)

    def _note(self, node_id: str, news: News | None) -> None:
        """What a leader is woken for."""
        if news is not None:
            self.changed["nodes" if news.is_of_node else "spoke"].add(node_id)
            self.changed["endpoints"] |= news.endpoints
