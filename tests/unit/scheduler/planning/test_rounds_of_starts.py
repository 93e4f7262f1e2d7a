"""Whole rounds that start endpoints, over a fleet of the test's own."""

from collections.abc import Iterable

from libs.common.bus.messages import WorkerObserved
from libs.common.states import WorkerState
from services.scheduler.policy.changes import SWEEP, Changed
from services.scheduler.policy.cluster import Device, DeviceSize, Endpoint, Model, OpenRequest
from services.scheduler.policy.decide import Decided, decide_round
from services.scheduler.policy.decisions import DrainEndpoint, StartEndpoint
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.planning.planning_cost import LEAST_OF_A_PLAN, OF_A_MODEL
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.values import (
    NOW_S,
    device,
    endpoint,
    model,
    observed,
    open_request,
    snapshot,
    summary,
    worker,
)

WEIGHT_BYTES = summary().weight_bytes
KV_BYTES = 100
MODEL_BYTES = WEIGHT_BYTES + KV_BYTES
LIMITS = Limits()


def waiting(waited_s: dict[str, float]) -> list[OpenRequest]:
    """One request of each model, which has waited for that long."""
    return [
        open_request(id=f"of-{id_}", model_id=id_, arrived_at_s=NOW_S - s)
        for id_, s in waited_s.items()
    ]


def small(*model_ids: str) -> list[Model]:
    """Whose targets are missed in any case: the network keeps none of them away."""
    fixed = {"kv_cache_bytes": KV_BYTES, "slo_ttft_s": 0.0}
    return [model(id=id_, name=id_, **fixed) for id_ in model_ids]


def cluster_of(
    devices: Iterable[Device],
    models: Iterable[Model],
    waited_s: dict[str, float],
    *,
    budget_devices: int = LIMITS.planning_budget_devices,
    num_standbys: int = 0,
) -> Snapshot:
    return snapshot(
        devices=devices,
        models=models,
        requests=waiting(waited_s),
        limits=Limits(planning_budget_devices=budget_devices),
        num_standbys=num_standbys,
    )


def round_of(before: Snapshot, number: int = 1) -> Decided:
    """The first one looks at everything, those after it go on."""
    changed = SWEEP if number == 1 else Changed(is_continued=True)
    return decide_round(before.changed(nonce=f"round-{number}"), changed, NodeMemo())


def started(after: Snapshot) -> set[str]:
    """Models that have an endpoint."""
    return {endpoint_.model_id for endpoint_ in after.endpoints}


def drained(decided: Decided) -> set[str]:
    """Models of endpoints that are asked to go."""
    return {x.model_id for x in decided.decisions if isinstance(x, DrainEndpoint)}


def test_a_round_plans_within_its_budget_and_the_next_one_goes_on_with_the_others() -> None:
    ids = [f"model-{i}" for i in range(5)]
    before = cluster_of(
        [device("node-1", memory=9 * MODEL_BYTES)],
        small(*ids),
        {model_id: 10.0 - i for i, model_id in enumerate(ids)},
        budget_devices=2 * LEAST_OF_A_PLAN,
    )

    first = round_of(before)
    assert first.is_unfinished
    assert started(first.snapshot) == set(ids[:2])

    second = round_of(first.snapshot, 2)
    assert second.is_unfinished
    assert started(second.snapshot) == set(ids[:4])

    third = round_of(second.snapshot, 3)
    assert started(third.snapshot) == set(ids)
    assert not round_of(third.snapshot, 4).is_unfinished


def test_models_that_do_not_fit_keep_nobody_behind_them_from_being_reached() -> None:
    large_ids = [f"large-{i}" for i in range(3)]
    larger = [model(id=id_, name=id_, kv_cache_bytes=MODEL_BYTES) for id_ in large_ids]
    ids = [*large_ids, "small"]
    before = cluster_of(
        [device("node-1", memory=MODEL_BYTES), device("node-2", memory=2 * MODEL_BYTES)],
        [*larger, *small("small")],
        {model_id: 10.0 - i for i, model_id in enumerate(ids)},
        budget_devices=1,  # one model in each round
    )

    for number, _ in enumerate(ids, start=1):
        decided = round_of(before, number)
        before = decided.snapshot

    assert started(decided.snapshot) == {large_ids[0], "small"}
    assert decided.is_unfinished, "the small one has just been started"


def test_two_models_that_start_in_one_round_do_not_count_on_the_same_standby() -> None:
    ids = ("model-0", "model-1")
    nodes = [device(node_id, memory=4 * MODEL_BYTES) for node_id in ("node-1", "node-2")]
    before = cluster_of(nodes, small(*ids), dict(zip(ids, (2.0, 1.0), strict=True)), num_standbys=1)

    decided = round_of(before)

    starts = [x for x in decided.decisions if isinstance(x, StartEndpoint)]
    node_ids = sorted(stage.node_id for start in starts for stage in start.plan.stages)
    assert node_ids == ["node-1", "node-2"]


def serving(model_id: str, node_id: str, *, idle_s: float | None) -> Endpoint:
    """It fills its node; without a time it is busy."""
    filling = worker(
        id=f"worker-{model_id}",
        endpoint_id=f"endpoint-{model_id}",
        node_id=node_id,
        device_bytes=MODEL_BYTES,
    )
    return endpoint(
        id=f"endpoint-{model_id}",
        model_id=model_id,
        workers=(filling,),
        idle_since_s=None if idle_s is None else NOW_S - idle_s,
    )


def seen(of: Endpoint) -> tuple[WorkerObserved, ...]:
    idle_s, (only,) = of.idle_s(NOW_S), of.workers
    idle_ms, num_running = (0, 1) if idle_s is None else (int(idle_s * 1000), 0)
    return (
        observed(
            WorkerState.READY,
            worker_id=only.id,
            endpoint_id=of.id,
            num_running=num_running,
            idle_ms=idle_ms,
        ),
    )


def large_one_waits_behind(*fleet: Endpoint, large_waited_s: float) -> Snapshot:
    """Endpoints fill two nodes; a model that needs both nodes waits, and so does a small one."""
    large = model(id="large", name="large", kv_cache_bytes=4 * KV_BYTES, max_pipeline_size=2)
    busy = (e for e in fleet if e.idle_since_s is None)
    return snapshot(
        devices=[device(node_id, memory=MODEL_BYTES) for node_id in ("node-1", "node-2")],
        workers={e.workers[0].node_id: seen(e) for e in fleet},
        endpoints=fleet,
        models=[large, *small("small", *(e.model_id for e in fleet))],
        requests=[
            *waiting({"large": large_waited_s, "small": 1.0}),
            *(open_request(id=f"of-{e.id}", model_id=e.model_id, endpoint_id=e.id) for e in busy),
        ],
    )


IDLE = serving("idle", "node-1", idle_s=20.0)
BUSY = serving("busy", "node-2", idle_s=None)


def test_at_first_a_small_model_takes_what_a_large_one_before_it_cannot_use_yet() -> None:
    decided = round_of(large_one_waits_behind(IDLE, BUSY, large_waited_s=LIMITS.claim_after_s - 1))

    assert drained(decided) == {"idle"}
    assert set(decided.snapshot.queue.claims) == {"small"}


def test_after_a_while_the_large_one_keeps_what_it_waits_for_from_small_ones_behind() -> None:
    waited_s = LIMITS.claim_after_s + 1

    decided = round_of(large_one_waits_behind(IDLE, BUSY, large_waited_s=waited_s))
    assert not drained(decided)
    assert set(decided.snapshot.queue.claims) == {"large"}

    both_idle = [serving(e.model_id, e.workers[0].node_id, idle_s=5.0) for e in (IDLE, BUSY)]
    later = large_one_waits_behind(*both_idle, large_waited_s=waited_s)
    decided = round_of(later.changed(queue=decided.snapshot.queue))
    assert drained(decided) == {"idle", "busy"}


def test_whose_room_has_come_free_starts_before_the_pass_has_reached_all_others() -> None:
    behind = [f"small-{i}" for i in range(5)]
    idle = serving("idle", "node-1", idle_s=20.0)

    def waits_behind(fleet: tuple[Endpoint, ...]) -> Snapshot:
        return snapshot(
            devices=[device("node-1", memory=MODEL_BYTES)],
            workers={"node-1": tuple(seen_ for e in fleet for seen_ in seen(e))},
            endpoints=fleet,
            models=small("idle", "first", *behind),
            requests=waiting({"first": 9.0} | dict.fromkeys(behind, 1.0)),
            limits=Limits(planning_budget_devices=1),  # one model in each round
        )

    first = round_of(waits_behind((idle,)))
    assert drained(first) == {"idle"}
    second = round_of(first.snapshot, 2)
    assert second.has_unreached and not started(second.snapshot) - {"idle"}

    freed = waits_behind(()).changed(queue=second.snapshot.queue)
    third = round_of(freed, 3)

    assert started(third.snapshot) == {"first"}


def test_a_round_whose_budget_went_into_asking_who_gives_way_leaves_the_others_to_the_next() -> (
    None
):
    """Each large model is made room for by several small ones that are idle."""
    num_small = 12
    idle = [_idle(number) for number in range(num_small)]
    large = [
        model(id=f"large-{i}", name=f"large-{i}", kv_cache_bytes=3 * MODEL_BYTES) for i in range(3)
    ]
    before = snapshot(
        devices=[device("node-1", memory=num_small * MODEL_BYTES)],
        workers={
            "node-1": tuple(
                observed(
                    WorkerState.READY,
                    worker_id=e.workers[0].id,
                    endpoint_id=e.id,
                    idle_ms=int(1000 * (e.idle_s(NOW_S) or 0)),
                )
                for e in idle
            )
        },
        endpoints=idle,
        sizes=(DeviceSize("node-1", 0, num_small * MODEL_BYTES),),
        models=[*large, *small(*(f"small-{i}" for i in range(num_small)))],
        requests=waiting({one.id: 10.0 - i for i, one in enumerate(large)}),
        limits=Limits(planning_budget_devices=3 * OF_A_MODEL),
    )

    first = round_of(before)

    assert len(drained(first)) >= 3
    assert first.is_unfinished, "to look at three models alone would have been enough for all"


def _idle(number: int) -> Endpoint:
    """The longest idle has the lowest number."""
    own = worker(id=f"worker-{number}", device_bytes=MODEL_BYTES)
    return endpoint(
        id=f"idle-{number}",
        model_id=f"small-{number}",
        idle_since_s=NOW_S - 100.0 + number,
        workers=(own,),
    )
