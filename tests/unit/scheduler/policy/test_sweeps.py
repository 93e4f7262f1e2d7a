"""A sweep looks at what may be due, and decides what one that looks at everything would."""

import random
from collections import Counter
from dataclasses import replace
from math import ceil
from typing import Any
from unittest.mock import ANY

import pytest

from libs.common.states import WorkerState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.changes import SWEEP, Changed
from services.scheduler.policy.cluster import DeviceSize
from services.scheduler.policy.decide import decide_round
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.planning.planning_cost import LEAST_OF_A_PLAN, OF_A_MODEL
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.rules.request_ends import GatewayView, perhaps_abandoned
from services.scheduler.policy.scope.round_scope import MAX_UNSEEN_S, scope_of, state_after
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.policy.histories import History
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

NUM_ROUNDS = 200
CONTINUED = Changed(is_continued=True)


@pytest.mark.parametrize("seed", range(16))
def test_a_sweep_decides_what_one_that_looks_at_everything_would(seed: int) -> None:
    history, memo = History(random.Random(seed)), NodeMemo()
    kinds: Counter[str] = Counter()
    for number in range(NUM_ROUNDS):
        is_sweep = number == 0 or history.rng.random() < 0.6
        before, changed = history.next_round(number, is_sweep=is_sweep)

        decided = decide_round(before, changed, memo)

        if is_sweep:
            plain = decide_round(before.changed(swept=None), changed, NodeMemo())
            assert decided.decisions == plain.decisions
            assert decided.snapshot.queue == plain.snapshot.queue
        kinds.update(type(decision).__name__ for decision in decided.decisions)
        history.snapshot = decided.snapshot
    assert kinds.keys() >= {"StartEndpoint", "ServeEndpoint", "FailEndpoint", "DrainEndpoint"}
    assert kinds.keys() >= {"EndRequest", "AssignRequest", "MarkIdle", "MarkBusy"}


NUM_ENDPOINTS = 2_000
KEEP_ALIVE_S = 10_000.0


def fleet(**changes: Any) -> Snapshot:
    """Everything has been looked at once, and nothing happens."""
    ids = range(NUM_ENDPOINTS)
    workers = [worker(id=f"worker-{i}", node_id=f"node-{i % 250}", device_index=i) for i in ids]
    ready = [
        observed(
            *(WorkerState.READY,),
            worker_id=f"worker-{i}",
            endpoint_id=f"endpoint-{i}",
            num_running=i % 2,
            idle_ms=60_000,
        )
        for i in ids
    ]
    made = snapshot(
        models=[model(id=f"model-{i}", keep_alive_s=KEEP_ALIVE_S) for i in ids],
        endpoints=[
            endpoint(
                id=f"endpoint-{i}",
                model_id=f"model-{i}",
                workers=(workers[i],),
                idle_since_s=None if i % 2 else NOW_S - 60.0,
            )
            for i in ids
        ],
        requests=[
            open_request(
                id=f"request-{i}",
                model_id=f"model-{i}",
                endpoint_id=f"endpoint-{i}",
                deadline_at_s=NOW_S + 1000.0,
            )
            for i in ids
            if i % 2
        ],
        workers={f"node-{n}": tuple(ready[n::250]) for n in range(250)},
    )
    swept = decide_round(made.changed(**changes), SWEEP, NodeMemo())
    assert not swept.decisions
    return swept.snapshot


def later(before: Snapshot, seconds: float) -> Snapshot:
    """Everybody has gone on saying the same."""
    log = before.observed
    agents = {id_: replace(heard, at_s=heard.at_s + seconds) for id_, heard in log.agents.items()}
    workers = {
        id_: tuple(
            seen.model_copy(update={"idle_ms": seen.idle_ms + int(1000 * seconds)})
            for seen in heard.heartbeat.workers
        )
        for id_, heard in agents.items()
    }
    agents = {
        id_: replace(heard, heartbeat=heard.heartbeat.model_copy(update={"workers": workers[id_]}))
        for id_, heard in agents.items()
    }
    return before.changed(now_s=before.now_s + seconds, observed=replace(log, agents=agents))


def test_a_sweep_of_what_is_steady_looks_at_few_and_at_all_within_the_bound() -> None:
    current, looked, most = fleet(), set[str](), 0
    for _ in range(int(MAX_UNSEEN_S) + 1):
        current = current.changed(now_s=current.now_s + 1.0)
        assert not perhaps_abandoned(current, GatewayView.of(current))
        scope = scope_of(current, SWEEP)
        looked |= set(scope.endpoints)
        most = max(most, len(scope.endpoints))
        swept = state_after(current, SWEEP, scope, ())
        current = current.changed(swept=swept)

    assert len(looked) == NUM_ENDPOINTS
    assert most < 4 * NUM_ENDPOINTS / MAX_UNSEEN_S


def test_what_nothing_announces_is_noticed_within_the_bound() -> None:
    """A row that no longer says what its worker does, by whatever hand."""
    current = fleet()
    was = current.endpoints["endpoint-8"]
    moved = replace(was, workers=(replace(was.workers[0], state=WorkerState.LAUNCHING),))
    current = current.changed(endpoints=current.endpoints.updated({was.id: moved}))
    for _ in range(int(MAX_UNSEEN_S) // 5 + 1):
        decided = decide_round(later(current, 5.0), SWEEP, NodeMemo())
        if decided.decisions:
            break
        current = decided.snapshot

    assert decided.decisions == (d.RecordWorker("model-8", "endpoint-8", ANY),)


def test_an_endpoint_ends_in_the_first_sweep_after_its_keep_alive() -> None:
    current = fleet()
    short = {**current.models, "model-8": replace(current.models["model-8"], keep_alive_s=63.0)}
    told = Changed(models=frozenset({"model-8"}))
    current = decide_round(current.changed(models=short), told, NodeMemo()).snapshot
    found = []
    for _ in range(4):
        decided = decide_round(later(current, 1.0), SWEEP, NodeMemo())
        found.append([type(decision) for decision in decided.decisions])
        current = decided.snapshot

    assert found == [[], [], [d.DrainEndpoint], []]


def test_work_between_two_heartbeats_is_noticed_by_the_next_sweep() -> None:
    current = later(fleet(), 1.0)
    agents = dict(current.observed.agents)
    beat = agents["node-8"].heartbeat
    workers = tuple(
        seen.model_copy(update={"idle_ms": 200}) if seen.worker_id == "worker-8" else seen
        for seen in beat.workers
    )
    agents["node-8"] = replace(
        agents["node-8"], heartbeat=beat.model_copy(update={"workers": workers})
    )
    worked = current.changed(observed=replace(current.observed, agents=agents))

    scope, decided = scope_of(worked, SWEEP), decide_round(worked, SWEEP, NodeMemo())

    assert scope.endpoints == ("endpoint-8",)
    assert [type(decision) for decision in decided.decisions] == [d.MarkIdle]


def test_a_round_that_goes_on_looks_at_models_that_began_and_reaches_all_in_turn() -> None:
    """However many wait: each round looks at as many as its budget allows, beside what it plans to
    see whether models of their shape could ever run."""
    num_waiting, per_round = 120, 7
    ids = [f"waits-{i:03}" for i in range(num_waiting)]
    requests = [
        open_request(id=f"of-{id_}", model_id=id_, arrived_at_s=NOW_S - 1000.0 + i)
        for i, id_ in enumerate(ids)
    ]
    full = snapshot(
        devices=[device("node-1", memory=1)],
        sizes=(DeviceSize("node-1", 0, 10**6),),  # not now
        models=[model(id=id_, tenant=f"tenant-{i % 3}") for i, id_ in enumerate(ids)],
        requests=requests,
        limits=Limits(planning_budget_devices=2 * LEAST_OF_A_PLAN + per_round * OF_A_MODEL),
    )
    decided, reached = decide_round(full, SWEEP, NodeMemo()), []
    num_rounds = 1
    while True:
        waits = [x.model_id for x in decided.decisions if isinstance(x, d.Wait)]
        assert len(waits) <= per_round
        reached += waits
        if not decided.is_unfinished:
            break
        following = decided.snapshot.changed(nonce=f"round-{num_rounds}")
        assert scope_of(following, CONTINUED).models == (), "nothing of any of them has changed"
        decided, num_rounds = decide_round(following, CONTINUED, NodeMemo()), num_rounds + 1

    assert num_rounds == ceil(num_waiting / per_round)
    assert reached == ids, "in the order in which they stand"
