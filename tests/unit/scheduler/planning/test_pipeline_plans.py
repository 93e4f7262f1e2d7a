from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from services.scheduler.policy.cluster import Device, DeviceSize
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.planning.planner import choose, fits_in, plan
from services.scheduler.policy.planning.plans import Plan
from tests.unit.scheduler.values import cluster, deployable, device, model, node, summary

# Four layers of 200 bytes, 110 bytes of ends; 80 bytes of KV.
SUMMARY = summary(unit_sizes=(100, 200, 200, 200, 200, 10))
WANTED = deployable(model(max_pipeline_size=4, kv_cache_bytes=80), SUMMARY)


NEARLY_FULL = device("crowded", memory=400, reserved=300, worker_bytes=150)


def equal_nodes(count: int, memory: int = 5000) -> tuple[Node, ...]:
    return tuple(node(device(f"node-{i}", memory=memory)) for i in range(count))


def planned(*nodes: Node, cached: Mapping[str, Iterable[str]] | None = None) -> Plan:
    chosen = plan(cluster(*nodes), deployable(WANTED.model, SUMMARY, cached))
    assert isinstance(chosen, Plan)
    return chosen


def test_stages_lie_on_different_nodes_and_hold_every_unit_once() -> None:
    chosen = planned(*equal_nodes(5))

    assert len({stage.node_id for stage in chosen.stages}) == len(chosen.stages) == 4
    digests = [digest for stage in chosen.stages for digest in stage.unit_digests]
    assert sorted(digests) == sorted(unit.digest for unit in SUMMARY.units)
    assert sum(stage.kv_bytes for stage in chosen.stages) == 80


def test_one_node_that_has_everything_serves_alone() -> None:
    there = node(device("has-it", memory=5000))

    chosen = planned(*equal_nodes(4), there, cached={"has-it": WANTED.unit_digests})

    assert [stage.node_id for stage in chosen.stages] == ["has-it"]


@pytest.mark.parametrize(
    ("nic", "num_standbys", "num_stages", "reason"),
    [
        (1000, 0, 1, "everybody has to import: who has the bytes serves alone"),
        (1000, 1, 4, "the others fetch their parts before it has imported"),
        (100, 1, 1, "the others would still fetch when it has imported"),
    ],
)
def test_who_has_everything_but_no_standby_serves_alone_if_nobody_is_sooner(
    nic: int, num_standbys: int, num_stages: int, reason: str
) -> None:
    others = [
        node(device(f"node-{i}", memory=5000), nic=nic, num_standbys=num_standbys) for i in range(4)
    ]

    has_it = node(device("has-it", memory=5000))
    chosen = planned(*others, has_it, cached={"has-it": WANTED.unit_digests})

    assert len(chosen.stages) == num_stages, reason


def test_a_standby_starts_one_stage_only() -> None:
    there = node(device("a", memory=600), device("a", memory=600, index=1), num_standbys=1)

    assert [stage.has_standby for stage in planned(there).stages] == [True, False]


def test_a_model_too_large_for_one_device_lies_on_several() -> None:
    assert len(planned(*equal_nodes(4, memory=400)).stages) == 4
    assert fits_in([DeviceSize(f"node-{i}", 0, 400) for i in range(4)], WANTED)
    assert not fits_in([DeviceSize("node-0", 0, 400)], WANTED)


@pytest.mark.parametrize(
    "crowded",
    [
        pytest.param(NEARLY_FULL, id="nearly full"),
        pytest.param(device("crowded", memory=0, reserved=300), id="gone, and still reserved"),
        pytest.param(device("crowded", memory=300, reserved=300), id="full"),
    ],
)
def test_a_device_without_room_for_a_process_does_not_keep_the_others_from_a_plan(
    crowded: Device,
) -> None:
    """Its room would be less than none, and be taken off that of the others."""
    chosen = planned(node(crowded, nic=10**6), *equal_nodes(3, memory=600))

    assert sorted(stage.node_id for stage in chosen.stages) == ["node-0", "node-1", "node-2"]


def test_two_devices_of_one_node_are_used_when_nodes_are_too_few() -> None:
    there = node(device("a", memory=600), device("a", memory=600, index=1))

    assert [stage.node_id for stage in planned(there).stages] == ["a", "a"]


def test_a_restart_gives_every_node_the_stage_it_had() -> None:
    first = planned(*equal_nodes(4))
    cached = {stage.node_id: stage.unit_digests for stage in first.stages}

    second = planned(*reversed(equal_nodes(4)), cached=cached)

    assert second.fetch_s == 0
    assert {s.node_id: s.layers for s in second.stages} == {
        s.node_id: s.layers for s in first.stages
    }


def test_as_many_stages_as_are_asked_for_also_where_a_node_is_slow_after_its_last_byte() -> None:
    slow = replace(node(device("slow", memory=5000)), tail_s=30.0)
    four = replace(WANTED.model, min_pipeline_size=4)

    at_ease = planned(slow, *equal_nodes(3))
    found = plan(cluster(slow, *equal_nodes(3)), deployable(four, SUMMARY))

    assert "slow" not in {stage.node_id for stage in at_ease.stages}
    assert isinstance(found, Plan) and len(found.stages) == 4


def test_as_many_stages_as_are_asked_for_also_where_fewer_nodes_have_all_layers() -> None:
    """Two nodes hold the model in their host caches, two hold nothing."""
    nodes = equal_nodes(4)
    first = planned(*nodes[:2])
    cached = {stage.node_id: stage.unit_digests for stage in first.stages}
    four = replace(WANTED.model, min_pipeline_size=4)

    at_ease = planned(*nodes, cached=cached)
    choice = choose(cluster(*nodes), deployable(four, SUMMARY, cached))

    assert len(at_ease.stages) == 2 and at_ease.fetch_s == 0
    assert isinstance(choice.plan, Plan) and len(choice.plan.stages) == 4
    assert all(s.layers.last_layer > s.layers.first_layer for s in choice.plan.stages[1:])
    verdicts = {p.num_stages: p.verdict for p in choice.considered}
    assert verdicts[2] == "has fewer stages than min_pipeline_size, 4"
