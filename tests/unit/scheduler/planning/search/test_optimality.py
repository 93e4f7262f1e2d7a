"""On small clusters the planner's plan is as good as the best of all plans."""

import random
from dataclasses import replace
from statistics import mean

import pytest

from services.scheduler.policy.cluster import Deployable, Device
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.planning import planner
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.planning.search.plan_search import Possible, meets
from services.scheduler.policy.prediction.objective import Objective
from services.scheduler.policy.prediction.predictor import ModelSpeed
from tests.unit.scheduler.planning.random_clusters import (
    random_model,
    random_nodes,
    with_caches,
)
from tests.unit.scheduler.planning.search.optimum import is_as_soon, optimum
from tests.unit.scheduler.values import cluster

MAX_DEVICES = 8  # more of them make too many plans to try


def random_case(rng: random.Random) -> tuple[list[Node], Deployable]:
    """At most six nodes and four stages."""
    wanted = random_model(rng)
    size = min(4, wanted.model.max_pipeline_size)
    wanted = replace(wanted, model=replace(wanted.model, max_pipeline_size=size))
    nodes = [
        replace(
            node,
            is_suspect=False,
            devices=_measured(node, rng.choice((0.5, 1.5, 4.0))),
            tail_s=rng.choice((0.0, 0.1, 0.5)),
            standby_launch_s=rng.choice((0.0, 0.2)),
        )
        for node in random_nodes(rng, wanted, max_nodes=6)
    ]
    while sum(len(node.devices) for node in nodes) > MAX_DEVICES:
        nodes.pop()
    objective = Objective(
        ttft_s=rng.choice((0.0, 1.0, 2.0, 4.0, 8.0, 8.0, 20.0, 20.0)),
        tpot_s=rng.choice((0.03, 0.05, 1.0, 1.0)),
        speed=ModelSpeed(prefill_s=0.1, step_s=0.04, hop_s=rng.choice((0.0, 0.002, 0.006))),
        serving_s=rng.choice((1.0, 60.0)),
        can_consolidate=rng.random() < 0.5,
    )
    return nodes, replace(with_caches(rng, wanted, nodes), objective=objective)


def _measured(node: Node, launch_s: float) -> tuple[Device, ...]:
    """A launch takes as long on each device of a node: that is how it is measured."""
    return tuple(replace(device, launch_s=launch_s) for device in node.devices)


@pytest.mark.parametrize(
    "num_cases", [100, pytest.param(2000, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_the_plan_is_nearly_the_best_of_all(num_cases: int) -> None:
    rng, costs, num_missed = random.Random(1), [], 0
    tpots = list[float]()
    for case in range(num_cases):
        nodes, wanted = random_case(rng)
        best = optimum(nodes, wanted)

        choice = planner.choose(cluster(*nodes), wanted)

        assert isinstance(choice.plan, Plan) == (best is not None), f"case {case}"
        if best is None or choice.prediction is None:
            continue
        assert isinstance(choice.plan, Plan)
        found = Possible(choice.plan, choice.prediction)
        if best.prediction.ttft_s <= wanted.objective.ttft_s:
            assert found.prediction.ttft_s <= wanted.objective.ttft_s, f"case {case}"
            if meets(best.prediction, wanted.objective):
                assert meets(found.prediction, wanted.objective), f"case {case}"
                costs.append(found.prediction.cost_byte_s / best.prediction.cost_byte_s)
            else:
                tpots.append(found.prediction.tpot_s / best.prediction.tpot_s)
        else:
            num_missed += 1
            assert is_as_soon(found, best), f"case {case}"
    assert mean(costs) <= 1.05 and mean(tpots) <= 1.05
    assert len(costs) > num_cases / 10 and num_missed > num_cases / 10, "both were compared"
    assert len(tpots) > num_cases / 50, "and so were those that are in time and too slow"
