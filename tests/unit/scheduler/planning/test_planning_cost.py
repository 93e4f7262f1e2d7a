"""What a decision costs does not grow with the cluster: counted in lines, not in seconds."""

import random
from time import perf_counter

from benchmarks.controlplane.planner import Scene
from tests.support.work import ExecutedLines


def lines_of_a_decision(num_nodes: int) -> int:
    """On nodes of eight devices: one has spoken, and one request waits for a model."""
    scene = Scene(num_nodes, random.Random(1), perf_counter, after_starts=True)
    for _ in range(3):
        scene.decide_next()
    with ExecutedLines("services/scheduler/policy/") as lines:
        scene.decide_next()
    return lines.count


def test_a_decision_of_a_thousand_nodes_costs_what_one_of_a_hundred_costs() -> None:
    few, many = lines_of_a_decision(100), lines_of_a_decision(1000)

    assert many < 1.5 * few
