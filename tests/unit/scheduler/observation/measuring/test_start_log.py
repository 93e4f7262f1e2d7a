"""Whose first prompt's hops are waited for, and for how long."""

from libs.common.states import WorkerState
from services.scheduler.observation.measuring.start_log import AWAITED_S, PromptHop, StartLog
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.observation.measuring.steps import step
from tests.unit.scheduler.values import NOW_S, endpoint, observed, snapshot, worker

ENTRY = (step("prefill", 0, 1), step("head", 6, 7))
LAST = (step("prefill", 1.5, 5), step("prefill.received", 1.5, 2))


def pipeline() -> Endpoint:
    stages = (worker(id="w-0"), worker(id="w-1", node_id="node-2", stage_index=1))
    return endpoint(workers=stages)


def at(now_s: float, *endpoints: Endpoint, is_told: bool = True) -> Snapshot:
    told = {"node-1": ("w-0", ENTRY), "node-2": ("w-1", LAST if is_told else ())}
    heard = {
        node_id: (observed(WorkerState.READY, worker_id=id_, steps=steps),)
        for node_id, (id_, steps) in told.items()
    }
    return snapshot(now_s=now_s, endpoints=endpoints, workers=heard)


def test_hops_are_found_once_they_are_told_and_until_they_are_written() -> None:
    one, log = pipeline(), StartLog()
    log.follow(one, NOW_S)

    assert log.hops(at(NOW_S + 1, one, is_told=False)) == []
    # One second to stage 1, one back.
    assert log.hops(at(NOW_S + 2, one)) == [PromptHop("endpoint-1", 1.0)]
    assert len(log.hops(at(NOW_S + 3, one))) == 1, "nobody said that it is written"
    log.end("endpoint-1")
    assert log.hops(at(NOW_S + 4, one)) == []


def test_nobody_waits_for_a_start_that_another_leader_saw() -> None:
    assert StartLog().hops(at(NOW_S, pipeline())) == []


def test_who_has_no_hops_is_gone_or_takes_too_long_is_not_waited_for() -> None:
    one, log = pipeline(), StartLog()
    log.follow(endpoint(), NOW_S)
    assert log.hops(at(NOW_S, endpoint())) == []

    log.follow(one, NOW_S)
    assert log.hops(at(NOW_S)) == []
    assert log.hops(at(NOW_S, one)) == [], "it was gone"

    log.follow(one, NOW_S)
    assert log.hops(at(NOW_S + AWAITED_S + 1, one)) == []
