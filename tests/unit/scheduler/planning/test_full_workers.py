"""How many workers of a pipeline get memory for the whole model, where the model says so.

Four layers of 200 bytes, 110 bytes of ends, 80 bytes of KV cache: 990 bytes in all. Over three
equal links the stages have 1, 2 and 1 layers, which take 330, 440 and 220 bytes of a device.
"""

from dataclasses import replace

import pytest

from services.scheduler.policy.cluster import Deployable
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.planning.planner import choose
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.prediction.objective import Objective
from tests.unit.scheduler.values import cluster, deployable, device, model, node, summary

WHOLE_BYTES = 990
SUMMARY = summary(unit_sizes=(100, 200, 200, 200, 200, 10))


def equal_nodes(count: int, memory: int = 5000) -> tuple[Node, ...]:
    return tuple(node(device(f"node-{i}", memory=memory)) for i in range(count))


def asking(num_full: int | None, *, least: int = 1, most: int = 4) -> Deployable:
    sizes = {"min_pipeline_size": least, "max_pipeline_size": most}
    return deployable(model(kv_cache_bytes=80, full_memory_workers=num_full, **sizes), SUMMARY)


def planned(wanted: Deployable, *nodes: Node) -> Plan:
    found = choose(cluster(*nodes), wanted).plan
    assert isinstance(found, Plan)
    return found


@pytest.mark.parametrize(
    ("asked", "reserved", "reason"),
    [
        (None, [990, 440, 220], "unless it is asked for, the entry alone"),
        (1, [990, 440, 220], "the same"),
        (2, [990, 990, 220], "the entry and one more"),
        (3, [990, 990, 990], "all"),
    ],
)
def test_so_many_workers_reserve_memory_for_the_whole_model(
    asked: int | None, reserved: list[int], reason: str
) -> None:
    found = planned(asking(asked, least=3, most=3), *equal_nodes(4))

    assert [stage.device_bytes for stage in found.stages] == reserved, reason
    assert found.num_full == reserved.count(WHOLE_BYTES)
    assert [stage.weight_bytes for stage in found.stages] == [310, 400, 200]


def test_no_other_number_is_considered_and_a_smaller_pipeline_has_as_many_as_it_can() -> None:
    told = choose(cluster(*equal_nodes(4)), asking(3)).considered

    assert {(p.num_stages, p.num_full) for p in told} == {(1, 1), (2, 2), (3, 3), (4, 3)}


def test_also_where_pipelines_are_consolidated_no_other_number_is_considered() -> None:
    objective = Objective(can_consolidate=True, num_endpoints=3)
    found = choose(cluster(*equal_nodes(4)), replace(asking(1), objective=objective))

    assert {p.num_full for p in found.considered} == {1}


@pytest.mark.parametrize(
    ("num_large", "num_full", "reason"),
    [
        (3, 3, "there is room for all three"),
        (2, 2, "the others have room for a part alone"),
        (0, 0, "nobody has: a start with less is better than none"),
    ],
)
def test_where_there_is_room_for_fewer_fewer_have_to_do(
    num_large: int, num_full: int, reason: str
) -> None:
    small = [node(device(f"small-{i}", memory=500)) for i in range(4 - num_large)]

    found = planned(asking(3, least=4), *equal_nodes(num_large), *small)

    assert (len(found.stages), found.num_full) == (4, num_full), reason


def test_more_of_them_cost_the_memory_that_they_reserve() -> None:
    """Ready after 1 s, as long as a launch takes; then 9 s of serving: 10 s of all memory."""
    devices = [replace(device(f"node-{i}", memory=5000), launch_s=1.0) for i in range(3)]
    objective = Objective(ttft_s=60.0, serving_s=9.0)

    def cost(asked: int) -> float:
        wanted = replace(asking(asked, least=3, most=3), objective=objective)
        prediction = choose(cluster(*map(node, devices)), wanted).prediction
        assert prediction is not None
        return prediction.cost_byte_s

    assert [cost(asked) for asked in (1, 2, 3)] == [16_500, 22_000, 29_700]
