"""However uneven a cluster is, one choice tries a bounded number of cuts, and says how many."""

import random
from dataclasses import replace

from services.scheduler.policy.planning import planner
from services.scheduler.policy.planning.planning_cost import OF_A_CUT, PlanningCost
from services.scheduler.policy.planning.search.refinement import MAX_CUTS
from services.scheduler.policy.prediction.objective import Objective
from tests.unit.scheduler.values import (
    cluster,
    deployable,
    device,
    model,
    node,
    summary,
    unit_digest,
)

NUM_LAYERS = 32
MAX_SHAPES = 8  # each is cut at least once, whatever others have taken


def test_a_target_that_is_missed_anyway_takes_no_more_than_that_many_cuts() -> None:
    rng = random.Random(1)
    sizes = (400, *(rng.randint(100, 300) for _ in range(NUM_LAYERS)), 10)
    wanted = deployable(
        model(max_pipeline_size=8, kv_cache_bytes=80),
        summary(unit_sizes=sizes),
        {
            f"node-{i}": [unit_digest(u) for u in rng.sample(range(NUM_LAYERS), 5)]
            for i in range(0, 60, 2)
        },
    )
    nodes = [
        replace(
            node(device(f"node-{i}", memory=rng.randint(900, 1500)), nic=rng.randint(50, 500)),
            tail_s=rng.choice((0.0, 0.1, 0.3)),
        )
        for i in range(60)
    ]
    missed = replace(wanted, objective=Objective(ttft_s=0.0))

    choice = planner.choose(cluster(*nodes), missed)

    assert 1 < choice.num_cuts <= MAX_CUTS + MAX_SHAPES
    cost = PlanningCost()
    cost.add_choice(cluster(*nodes), choice)
    assert cost.num_devices > OF_A_CUT * choice.num_cuts
