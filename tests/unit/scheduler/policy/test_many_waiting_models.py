"""With thousands of models that wait and of endpoints that live, rounds end and reach everybody."""

from dataclasses import dataclass, field, fields
from math import ceil

from libs.common.states import WorkerState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.changes import SWEEP, Changed
from services.scheduler.policy.cluster import Demand, Endpoint
from services.scheduler.policy.decide import decide_round
from services.scheduler.policy.planning.planning_cost import OF_A_MODEL
from services.scheduler.policy.planning.start_order import WaitingModel, start_order
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.scope.round_scope import scope_of
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.values import (
    NOW_S,
    device,
    endpoint,
    model,
    observed,
    open_request,
    snapshot,
    worker,
)

NUM_NODES, DEVICES_EACH, NUM_WAITING = 1_000, 8, 2_500
NUM_LIVE = NUM_NODES * DEVICES_EACH
MODELS_EACH_ROUND = ceil(200_000 / OF_A_MODEL)  # as the budget says
CONTINUED = Changed(is_continued=True)


@dataclass(frozen=True)
class CountingSnapshot(Snapshot):
    """Notes of which models the demand is asked."""

    asked: list[str] = field(default_factory=list)

    def demand(self, model_id: str) -> Demand:
        self.asked.append(model_id)
        return super().demand(model_id)


def _counting(before: Snapshot) -> CountingSnapshot:
    return CountingSnapshot(**{each.name: getattr(before, each.name) for each in fields(before)})


def _crowded() -> Snapshot:
    """Every device is taken by a busy endpoint. The manifests of those that wait are not known, so
    that planning costs nothing and only the queue is looked at."""
    live = [_live(i) for i in range(NUM_LIVE)]
    waiting = [f"waits-{i}" for i in range(NUM_WAITING)]
    busy = [
        observed(
            *(WorkerState.READY,), worker_id=f"worker-{i}", endpoint_id=f"e-{i}", num_running=1
        )
        for i in range(NUM_LIVE)
    ]
    return snapshot(
        devices=[
            device(f"node-{n}", memory=1000, index=i)
            for n in range(NUM_NODES)
            for i in range(DEVICES_EACH)
        ],
        workers={f"node-{n}": tuple(busy[n::NUM_NODES]) for n in range(NUM_NODES)},
        endpoints=live,
        models=[
            *(model(id=e.model_id, tenant=e.tenant) for e in live),
            *(
                model(id=id_, tenant=f"tenant-{i % 7}", manifest_digest="not known")
                for i, id_ in enumerate(waiting)
            ),
        ],
        requests=[
            open_request(id=f"of-{id_}", model_id=id_, arrived_at_s=NOW_S - 100.0 + i % 97)
            for i, id_ in enumerate(waiting)
        ],
    )


def _live(number: int) -> Endpoint:
    return endpoint(
        id=f"e-{number}",
        model_id=f"lives-{number}",
        tenant=f"tenant-{number % 5}",
        workers=(
            worker(
                id=f"worker-{number}",
                node_id=f"node-{number % NUM_NODES}",
                device_index=number // NUM_NODES,
                device_bytes=900,
            ),
        ),
    )


def _fair_order(crowded: Snapshot) -> list[str]:
    """The reference: every model is asked, and every endpoint counted."""
    num_live_of: dict[str, int] = {}
    for live in crowded.endpoints:
        num_live_of[live.tenant] = num_live_of.get(live.tenant, 0) + 1
    waiting = [
        WaitingModel(r.model_id, crowded.models[r.model_id].tenant, 0, r.arrived_at_s)
        for r in crowded.requests
    ]
    return start_order(waiting, num_live_of)


def test_rounds_of_bounded_work_reach_everybody_in_the_fair_order() -> None:
    crowded = _crowded()
    memo, reached, num_rounds = NodeMemo(), list[str](), 1
    decided = decide_round(crowded, SWEEP, memo)
    while True:
        waits = [x.model_id for x in decided.decisions if isinstance(x, d.Wait)]
        assert len(waits) <= MODELS_EACH_ROUND
        reached += waits
        if not decided.is_unfinished:
            break
        following = _counting(decided.snapshot.changed(nonce=f"round-{num_rounds}"))
        assert scope_of(following, CONTINUED).models == (), "no rule is asked of any model"
        decided, num_rounds = decide_round(following, CONTINUED, memo), num_rounds + 1
        assert following.asked == [], "nobody's place is asked for again"

    assert num_rounds == ceil(NUM_WAITING / MODELS_EACH_ROUND)
    assert reached == _fair_order(crowded)
