"""What entries tell of their steps, as figures of models; numbers by hand."""

import pytest

from libs.common.bus.messages import DecodeTime, EngineSpeed, WorkerObserved
from libs.common.states import EndpointState, MemberMemory, MemberRole, WorkerState
from services.scheduler.observation.measuring.device_shares import current_slowdown
from services.scheduler.observation.measuring.speed_figures import Circumstances, speed_figures
from services.scheduler.observation.measuring.speed_log import (
    LOOK_INTERVAL_S,
    MODEL_INTERVAL_S,
    SpeedLog,
)
from services.scheduler.policy.cluster import Endpoint, Member
from services.scheduler.policy.prediction.quantities import STEPS, MeasurementKey
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.values import NOW_S, endpoint, observed, snapshot, worker

TOLD = EngineSpeed(
    prefill_us_per_token=800,
    decode=(DecodeTime(batch=1, mean_us=30_000), DecodeTime(batch=4, mean_us=36_000)),
)


def seen(**changes: object) -> Circumstances:
    values = {
        "model_id": "model-1",
        "weight_bytes": 500_000_000,
        "num_stages": 1,
        "slowdown": 1.0,
        "hop_s": 0.002,
    }
    return Circumstances(**{**values, **changes})  # type: ignore[arg-type]  # a test's own table


def by_name(found: dict[MeasurementKey, float]) -> dict[str, float]:
    return {key.quantity.value: round(value, 9) for key, value in found.items()}


def test_a_single_workers_figures_are_the_models() -> None:
    assert by_name(speed_figures(TOLD, seen())) == {
        "prefill_s_per_token": 0.0008,
        "prefill_s_per_token_gb": 0.0016,  # of half a GB
        "step_1_s": 0.03,
        "step_4_s": 0.036,
        "step_s_per_gb": 0.06,
    }


def test_of_a_pipelines_steps_the_hops_are_taken_away_and_the_rest_divided_by_phi() -> None:
    found = speed_figures(TOLD, seen(num_stages=4, slowdown=1.5, weight_bytes=0))

    assert by_name(found) == {
        "prefill_s_per_token": round(0.0008 / 1.5, 9),
        "step_1_s": 0.024 / 1.5,  # 30 ms less 3 hops of 2 ms
        "step_4_s": 0.030 / 1.5,
    }
    assert {key.model_id for key in found} == {"model-1"}


def test_hops_that_are_taken_for_too_long_leave_a_part_of_the_step() -> None:
    found = speed_figures(TOLD, seen(num_stages=4, hop_s=1.0))

    assert found[MeasurementKey(STEPS[1], model_id="model-1")] == pytest.approx(0.0075)


def test_a_tiny_model_says_nothing_of_larger_ones() -> None:
    found = speed_figures(TOLD, seen(weight_bytes=1_000_000))

    assert {key.model_id for key in found} == {"model-1"}


def test_what_was_not_measured_gives_no_figure() -> None:
    assert speed_figures(EngineSpeed(), seen()) == {}


# ------------------------------------------------------------------------ shares


def serving(name: str, *nodes: str, device_bytes: int = 100) -> Endpoint:
    """A stage of as many layers on each node."""
    workers = tuple(
        worker(
            id=f"{name}-{i}",
            endpoint_id=name,
            node_id=node_id,
            stage_index=i,
            device_bytes=device_bytes,
        )
        for i, node_id in enumerate(nodes)
    )
    members = tuple(
        Member(
            worker_id=w.id,
            role=MemberRole.FOLLOWER if w.stage_index else MemberRole.ENTRY,
            stage_index=w.stage_index,
            first_layer=4 * w.stage_index,
            last_layer=4 * w.stage_index + 4,
            memory=MemberMemory.FULL,
        )
        for w in workers
    )
    return endpoint(id=name, model_id=f"model-of-{name}", workers=workers, members=members)


def entry(of: Endpoint, **changes: object) -> WorkerObserved:
    said = {"worker_id": of.workers[0].id, "endpoint_id": of.id, **changes}
    return observed(WorkerState.READY, **said)


@pytest.mark.parametrize(
    ("num_running", "expected", "why"),
    [
        (0, 1.0, "nobody else computes: a pipeline is as fast as one worker"),
        # Half of the model on node-1 with 100 of 400 bytes, half alone: 0.5/0.25 + 0.5/1.
        (1, 2.5, "on node-1 it has a quarter of the compute"),
    ],
)
def test_compute_is_shared_by_memory_with_those_who_compute(
    num_running: int, expected: float, why: str
) -> None:
    own, other = serving("a", "node-1", "node-2"), serving("b", "node-1", device_bytes=300)
    elsewhere = serving("c", "node-3", device_bytes=300)
    told = {"node-1": (entry(other, num_running=num_running),)}
    world = snapshot(endpoints=[own, other, elsewhere], workers=told)

    assert current_slowdown(world, own) == pytest.approx(expected), why


# --------------------------------------------------------------------- who counts


def at(now_s: float, *endpoints: Endpoint, **told: object) -> Snapshot:
    """All of them tell the same."""
    said = {"speed": TOLD, **told}
    heard = {e.workers[0].node_id: (entry(e, **said),) for e in endpoints}
    return snapshot(now_s=now_s, endpoints=endpoints, workers=heard)


def counted(log: SpeedLog, world: Snapshot) -> list[str]:
    """What is new is written."""
    found = log.new(world)
    for item in found:
        log.note(item, world.now_s)
    return [item.worker_id for item in found]


def test_a_speed_counts_once_however_often_it_is_told() -> None:
    one, log = serving("a", "node-1"), SpeedLog()
    log.follow("a-0")

    found = [counted(log, at(NOW_S + 60 * minute, one)) for minute in range(1, 5)]

    assert found == [["a-0"], [], [], []]


def test_a_running_endpoint_counts_once_a_minute() -> None:
    one, log = serving("a", "node-1"), SpeedLog()
    log.follow("a-0")
    num_counted = 0
    for second in range(600):
        speed = EngineSpeed(prefill_us_per_token=1000 + second)
        num_counted += len(counted(log, at(NOW_S + second, one, speed=speed)))

    assert num_counted == 600 // max(MODEL_INTERVAL_S, LOOK_INTERVAL_S)


def test_what_was_not_measured_before_counts_at_once_and_the_rest_in_a_minute() -> None:
    """Of a short life there may be a step first and a prompt next, and then nothing."""
    one, log = serving("a", "node-1"), SpeedLog()
    log.follow("a-0")
    first = EngineSpeed(decode=TOLD.decode[:1])
    assert counted(log, at(NOW_S, one, speed=first)) == ["a-0"]

    (found,) = log.new(at(NOW_S + 1, one, speed=TOLD))

    assert found.speed == TOLD.model_copy(update={"decode": TOLD.decode[1:]})


def test_of_a_model_one_endpoint_counts_and_of_several_models_each() -> None:
    log = SpeedLog()
    twins = [serving(name, node) for name, node in (("a", "node-1"), ("b", "node-2"))]
    twins = [endpoint(id=e.id, workers=e.workers) for e in twins]  # of model-1, both
    other = serving("c", "node-3")
    for name in ("a-0", "b-0", "c-0"):
        log.follow(name)

    assert counted(log, at(NOW_S, *twins, other)) == ["a-0", "c-0"]


def test_what_another_leader_may_have_counted_counts_when_it_has_changed() -> None:
    one, log = serving("a", "node-1"), SpeedLog()

    assert counted(log, at(NOW_S, one)) == []
    newer = EngineSpeed(prefill_us_per_token=900)
    assert counted(log, at(NOW_S + LOOK_INTERVAL_S, one, speed=newer)) == ["a-0"]


def test_who_is_idle_for_long_does_not_serve_or_follows_another_is_passed_over() -> None:
    one, log = serving("a", "node-1"), SpeedLog()
    starting = endpoint(id="a", workers=one.workers, state=EndpointState.STARTING)
    log.follow("a-0")

    assert counted(log, at(NOW_S, one, idle_ms=60_000)) == []
    assert counted(log, at(NOW_S + 10, starting)) == []
    assert counted(log, at(NOW_S + 20, one, worker_id="a-1")) == []
    assert counted(log, at(NOW_S + 30, one, idle_ms=5_000)) == ["a-0"]
