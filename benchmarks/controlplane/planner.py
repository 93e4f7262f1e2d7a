"""What one decision of the planner costs, whatever the cluster's size. No I/O: values only.

Each sample is what follows when one node has spoken and one request waits for a model that runs
nowhere: the new snapshot, the planner's view of the cluster brought up to date, and the round's
decision. Half of the devices are taken; each start is ended a little later, so that it stays so.

In a burst a decision also follows the start before it: `after_starts` leaves to each sample to take
in the eight or so nodes of the start before it and of the one that ended.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import perf_counter

from benchmarks.controlplane import catalogue
from benchmarks.controlplane import planner_values as values
from benchmarks.controlplane.planner_values import CACHE_BYTES, DEVICES_PER_NODE, GATEWAY, NOW_S
from libs.common.bus.messages import (
    AgentHeartbeat,
    FetcherHeartbeat,
)
from services.scheduler.policy.changes import Changed
from services.scheduler.policy.cluster import (
    Endpoint,
    NodeRecord,
    OpenRequest,
)
from services.scheduler.policy.decide import Decided, decide_round
from services.scheduler.policy.decisions import StartEndpoint
from services.scheduler.policy.observed import Heard
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.policy.tables.snapshot_tables import endpoint_table

NUM_MODELS = 200  # that are asked for in turn
NUM_KEPT = 20  # starts, before the oldest of them is ended


def decision_times_ms(
    num_nodes: int,
    num_samples: int,
    seed: int,
    clock: Callable[[], float] = perf_counter,
    *,
    after_starts: bool = False,
) -> list[float]:
    """One for each sample, in the order in which they were taken. A thread's own time as the clock
    leaves out what a busy machine does meanwhile."""
    scene = Scene(num_nodes, random.Random(seed), clock, after_starts)
    scene.decide_next()  # the first one lays out the whole cluster
    return [scene.decide_next() for _ in range(num_samples)]


@dataclass
class Scene:
    """A cluster of values, and a leader's memory between rounds."""

    num_nodes: int
    rng: random.Random
    clock: Callable[[], float]  # seconds
    after_starts: bool
    memo: NodeMemo = field(default_factory=NodeMemo)
    snapshot: Snapshot = field(init=False)
    _started: deque[str] = field(default_factory=deque)
    _number: int = 0

    def __post_init__(self) -> None:
        ids = [f"node-{index:05d}" for index in range(self.num_nodes)]
        digests = [catalogue.manifest_digest(number) for number in range(NUM_MODELS)]
        endpoints = self._endpoints(ids)
        models = [values.model(f"model-{i}", digest) for i, digest in enumerate(digests)]
        models += [values.model(endpoint.model_id, "") for endpoint in endpoints]
        self.snapshot = Snapshot(
            now_s=NOW_S,
            observed=values.observed(ids, endpoints),
            models={model.id: model for model in models},
            summaries={digest: catalogue.summary(i, {}) for i, digest in enumerate(digests)},
            nodes={id_: NodeRecord(id_, 1, "boot") for id_ in ids},
            devices={
                id_: tuple(values.device(id_, i) for i in range(DEVICES_PER_NODE)) for id_ in ids
            },
            endpoints=endpoint_table({endpoint.id: endpoint for endpoint in endpoints}),
        )

    def decide_next(self) -> float:
        """Milliseconds of the next decision, which starts an endpoint."""
        self._number += 1
        if not self.after_starts:
            self.memo.cluster(self.snapshot)
        request, (heard_a, heard_f) = self._request(), self._news()
        node_id, before = heard_a.heartbeat.node_id, self.snapshot.observed
        began_s = self.clock()
        observed = replace(
            before,
            agents={**before.agents, node_id: heard_a},
            fetchers={**before.fetchers, node_id: heard_f},
        )
        snapshot = self.snapshot.changed(
            observed=observed,
            nonce=f"round-{self._number}",
            requests=self.snapshot.requests.updated({request.id: request}),
        )
        changed = Changed(models=frozenset({request.model_id}), nodes=frozenset({node_id}))
        decided = decide_round(snapshot, changed, self.memo)
        took_ms = (self.clock() - began_s) * 1000
        self._follow(decided, request.id)
        return took_ms

    def _request(self) -> OpenRequest:
        return OpenRequest(
            id=f"request-{self._number}",
            model_id=f"model-{self._number % NUM_MODELS}",
            gateway_id=GATEWAY,
            attempt=1,
            num_engine_crashes=0,
            num_node_losses=0,
            endpoint_id=None,
            arrived_at_s=NOW_S - 1,
            deadline_at_s=NOW_S + 600,
        )

    def _news(self) -> tuple[Heard[AgentHeartbeat], Heard[FetcherHeartbeat]]:
        """A node's next words; what it says of its standbys and its host cache has changed."""
        node_id = f"node-{self.rng.randrange(self.num_nodes):05d}"
        free_bytes = CACHE_BYTES - self.rng.randint(0, 10**9)
        agent = self.snapshot.observed.agents[node_id].heartbeat.model_copy(
            update={"sequence": self._number + 1, "num_standbys": self.rng.randint(0, 2)}
        )
        fetcher = self.snapshot.observed.fetchers[node_id].heartbeat.model_copy(
            update={"sequence": self._number + 1, "cache_capacity_bytes": free_bytes}
        )
        return Heard(agent, NOW_S), Heard(fetcher, NOW_S)

    def _follow(self, decided: Decided, request_id: str) -> None:
        """The request is served, and a start of some time ago has ended."""
        (start,) = (x for x in decided.decisions if isinstance(x, StartEndpoint))
        self._started.append(start.endpoint_id)
        ended: dict[str, Endpoint | None] = {}
        if len(self._started) > NUM_KEPT:
            ended[self._started.popleft()] = None
        self.snapshot = decided.snapshot.changed(
            endpoints=decided.snapshot.endpoints.updated(ended),
            requests=decided.snapshot.requests.updated({request_id: None}),
        )

    def _endpoints(self, ids: list[str]) -> list[Endpoint]:
        """On half of the devices, busy, each of another model that nobody asks for here."""
        places = [(node_id, index) for node_id in ids for index in range(DEVICES_PER_NODE)]
        chosen = self.rng.sample(places, len(places) // 2)
        return [values.endpoint(f"taken-{n}", *place) for n, place in enumerate(chosen)]
