"""Nodes that differ: plans follow network cards, memory and cores.

The model: 100 bytes of ends, nine layers of 100 bytes, 1000 in all. A process takes 0.5 s to
launch; nothing else takes time but fetches.
"""

from dataclasses import replace

import pytest

from services.scheduler.policy.cluster import Deployable
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.planning.planner import Choice, choose
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.prediction.objective import Objective
from tests.unit.scheduler.values import cluster, deployable, device, model, node, summary

SUMMARY = summary(unit_sizes=(90, *[100] * 9, 10))
SLOW_NIC, FAST_NIC = 100, 400
LAUNCH_S = 0.5


def a_node(name: str, nic: int = SLOW_NIC, memory: int = 10_000, cores: int = 4) -> Node:
    there = device(name, memory=memory, cores=cores)
    return node(replace(there, launch_s=LAUNCH_S), nic=nic)


def wanted(ttft_s: float, *, least: int = 1, most: int = 4, kv: int = 0) -> Deployable:
    sizes = {"min_pipeline_size": least, "max_pipeline_size": most}
    asked = deployable(model(kv_cache_bytes=kv, **sizes), SUMMARY)
    return replace(asked, objective=Objective(ttft_s=ttft_s, serving_s=60.0))


def stages(choice: Choice) -> list[tuple[str, int, int]]:
    """Node, first and last layer."""
    assert isinstance(choice.plan, Plan)
    return [(s.node_id, s.layers.first_layer, s.layers.last_layer) for s in choice.plan.stages]


def reserved(choice: Choice) -> list[int]:
    assert isinstance(choice.plan, Plan)
    return [stage.device_bytes for stage in choice.plan.stages]


def test_a_card_that_is_four_times_as_fast_fetches_four_times_as_much() -> None:
    """Of 1000 bytes 800 over 400/s, 200 over 100/s: both are done after 2 s. The fast node is the
    entry: with the ends it has seven layers. In halves the slow one would take 5 s."""
    choice = choose(cluster(a_node("slow"), a_node("fast", FAST_NIC)), wanted(9.0, least=2, most=2))

    assert stages(choice) == [("fast", 0, 7), ("slow", 7, 9)]
    assert choice.prediction is not None and choice.prediction.ready_s == 2.0


def test_among_four_nodes_the_split_follows_every_card() -> None:
    """Cards of 400, 100, 100 and 100: 700/s together, so at best 1000 / 700 = 1.43 s. Layers are
    not cut: three of the slow nodes with a layer each and the fast one with the ends and six layers
    take 700 / 400 = 1.75 s; with two layers a slow node would take 2 s."""
    nodes = [a_node("fast", FAST_NIC), *(a_node(f"slow-{i}") for i in range(3))]
    choice = choose(cluster(*nodes), wanted(0.0))

    assert [(name.partition("-")[0], *layers) for name, *layers in stages(choice)] == [
        ("fast", 0, 6),
        ("slow", 6, 7),
        ("slow", 7, 8),
        ("slow", 8, 9),
    ]
    assert choice.prediction is not None and choice.prediction.ready_s == 1.75


@pytest.mark.parametrize(
    ("ttft_s", "nodes", "reason"),
    [
        (11.0, ["fast"], "either alone would do: the fast one holds its memory for less"),
        (2.5, ["fast"], "the fast one alone takes 1000 / 400 = 2.5 s"),
        (2.4, ["fast", "slow"], "both together take 2 s"),
        (1.0, ["fast", "slow"], "too tight for any: the soonest"),
    ],
)
def test_a_target_that_the_fast_card_meets_alone_takes_nobody_else(
    ttft_s: float, nodes: list[str], reason: str
) -> None:
    choice = choose(cluster(a_node("slow"), a_node("fast", FAST_NIC)), wanted(ttft_s, most=2))

    assert [name for name, *_ in stages(choice)] == nodes, reason


def test_the_node_with_twice_the_memory_has_the_worker_for_the_whole_model() -> None:
    """It is the entry, although it is no faster and comes later by name; 600 bytes hold no whole
    model. In equal parts: the ends and four layers, and five layers."""
    nodes = cluster(a_node("a-small", memory=600), a_node("b-large", memory=1200))

    choice = choose(nodes, wanted(5.0, least=2, most=2))

    assert stages(choice) == [("b-large", 0, 4), ("a-small", 4, 9)]
    assert reserved(choice) == [1000, 500]
    assert isinstance(choice.plan, Plan) and choice.plan.num_full == 1


def test_the_node_with_twice_the_memory_serves_alone_where_the_target_allows_it() -> None:
    nodes = cluster(a_node("a-small", memory=600), a_node("b-large", memory=1200))

    assert stages(choose(nodes, wanted(10.0))) == [("b-large", 0, 9)]


def test_memory_limits_what_cards_would_share_out() -> None:
    """With 450 bytes of KV cache a layer takes 150: of 1450 bytes neither 600 nor 1200 hold all.
    Equal cards would have equal parts; of 600 bytes there are only four layers (600), so the large
    node has five (750) with the ends (100)."""
    nodes = cluster(a_node("a-small", memory=600), a_node("b-large", memory=1200))

    choice = choose(nodes, wanted(0.0, most=2, kv=450))

    assert stages(choice) == [("b-large", 0, 5), ("a-small", 5, 9)]
    assert reserved(choice) == [850, 600]
    assert choice.prediction is not None and choice.prediction.ready_s == 6.0


def test_what_is_slow_and_large_has_all_the_memory_and_what_is_fast_and_small_most_layers() -> None:
    """The whole model fits the slow node alone, which becomes the entry; the fast one fetches six
    layers in 1.5 s, more it does not hold: 600 bytes. The slow one has the ends and three layers
    then: 4 s. With seven on the fast one it would be 3 s."""
    nodes = cluster(a_node("fast", FAST_NIC, memory=600), a_node("slow", memory=1000))

    choice = choose(nodes, wanted(5.0))

    assert stages(choice) == [("slow", 0, 3), ("fast", 3, 9)]
    assert reserved(choice) == [1000, 600]
    assert choice.prediction is not None and choice.prediction.ready_s == 4.0


def test_twice_the_cores_are_twice_as_many_for_the_same_share_of_memory() -> None:
    """Of 2000 bytes the model reserves a half: 2 of 4 cores, 4 of 8."""
    for cores, granted in ((4, 2), (8, 4)):
        choice = choose(cluster(a_node("one", memory=2000, cores=cores)), wanted(20.0))
        assert isinstance(choice.plan, Plan)
        assert [stage.cores for stage in choice.plan.stages] == [granted]


@pytest.mark.parametrize(
    ("ttft_s", "expected", "reason"),
    [
        (11.0, [("large", 0, 9)], "only the large one holds all: 10 s"),
        (5.0, [("large", 0, 3), ("fast", 3, 9)], "the ends and three layers over 100/s: 4 s"),
        (3.5, [("large", 0, 1), ("fast", 1, 7), ("late", 7, 9)], "2 s of fetches, launched in 3 s"),
    ],
)
def test_nodes_that_differ_in_everything(
    ttft_s: float, expected: list[tuple[str, int, int]], reason: str
) -> None:
    """Cards of 400, 100 and 100; memory of 600, 1200 and 600: six layers at most on the first and
    the last, of which the last one launches in 3 s."""
    late = a_node("late", memory=600)
    late = replace(late, devices=tuple(replace(d, launch_s=3.0) for d in late.devices))
    nodes = cluster(a_node("fast", FAST_NIC, memory=600), a_node("large", memory=1200), late)

    choice = choose(nodes, wanted(ttft_s))

    assert stages(choice) == expected, reason
    assert choice.considered[0].verdict == "taken: the cheapest that meets both targets"
