"""The planner answers what a plain one answers that looks at every device, for any cluster."""

import random
from dataclasses import replace

import pytest

from libs.common.states import EndpointState
from services.scheduler.policy.planning import planner
from services.scheduler.policy.planning.freed_room import FreedRoom
from services.scheduler.policy.planning.model_shape import ModelShape
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.planning.projected_cluster import (
    with_plans,
    with_suspects,
    without,
)
from services.scheduler.policy.planning.reclaim import is_leaving, outlast, reclaim
from tests.unit.scheduler.planning.random_clusters import (
    random_model,
    random_nodes,
    with_caches,
    with_endpoints,
)
from tests.unit.scheduler.planning.reference import (
    reference_cluster,
    reference_planner,
    reference_reclaim,
)
from tests.unit.scheduler.values import cluster

COUNTS = pytest.mark.parametrize(
    "num_trials", [300, pytest.param(3000, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)


@COUNTS
def test_the_same_plan_for_many_clusters_and_models(num_trials: int) -> None:
    rng, num_stages = random.Random(1), set()
    for trial in range(num_trials):
        wanted = random_model(rng)
        nodes = random_nodes(rng, wanted)
        wanted = with_caches(rng, wanted, nodes)

        chosen = planner.choose(cluster(*nodes), wanted)

        assert chosen == reference_planner.choose(nodes, wanted), f"trial {trial}"
        num_stages.add(len(chosen.plan.stages) if isinstance(chosen.plan, Plan) else 0)
    assert num_stages >= {0, 1, 2, 3, 4, 5}, "every kind of answer was compared"


@COUNTS
def test_the_same_plan_after_claims_suspicion_and_ends(num_trials: int) -> None:
    rng = random.Random(2)
    for trial in range(num_trials // 2):
        wanted, claiming = random_model(rng), random_model(rng)
        nodes, endpoints = with_endpoints(rng, random_nodes(rng, wanted), wanted)
        wanted = with_caches(rng, wanted, nodes)
        claim = planner.plan(cluster(*nodes), claiming)
        claims = [claim] if isinstance(claim, Plan) else []
        suspects = {there.id for there in nodes if rng.random() < 0.2} | {"unknown"}
        leaving = rng.sample(endpoints, rng.randint(0, len(endpoints)))

        changed = with_plans(cluster(*nodes), claims)
        changed = without(with_suspects(changed, suspects), leaving)
        plain = reference_cluster.with_plans(nodes, claims)
        plain = reference_cluster.without(reference_cluster.with_suspects(plain, suspects), leaving)

        assert sorted(changed.nodes, key=lambda n: n.id) == sorted(plain, key=lambda n: n.id)
        assert planner.choose(changed, wanted) == reference_planner.choose(plain, wanted), (
            f"trial {trial}"
        )


@pytest.mark.parametrize("num_changes", [1, 5])
def test_a_changed_cluster_has_the_columns_of_a_new_one(num_changes: int) -> None:
    rng = random.Random(3)
    for _ in range(200):
        wanted = random_model(rng)
        nodes = random_nodes(rng, wanted)
        there = cluster(*nodes)
        others, _ = with_endpoints(rng, nodes, wanted)
        changes = {n.id: n for n in rng.sample(others, min(num_changes, len(others)))}

        changed = there.changed(changes)

        new = cluster(*(changes.get(n.id, n) for n in nodes))
        assert changed.nodes == new.nodes
        for name, column in vars(new.columns).items():
            assert (getattr(changed.columns, name) == column).all(), name


@COUNTS
def test_the_same_endpoints_give_way(num_trials: int) -> None:
    rng, num_victims = random.Random(4), set()
    for trial in range(max(250, num_trials // 8)):
        wanted = random_model(rng)
        nodes, endpoints = with_endpoints(rng, random_nodes(rng, wanted), wanted)
        endpoints = [
            replace(e, state=EndpointState.DRAINING) if rng.random() < 0.1 else e for e in endpoints
        ]
        idle = [e for e in endpoints if e.idle_since_s is not None and not is_leaving(e)]
        rng.shuffle(idle)  # whatever the order is

        found = reclaim(cluster(*nodes), endpoints, idle, wanted)

        assert found == reference_reclaim.reclaim(nodes, endpoints, idle, wanted), f"trial {trial}"
        later = without(cluster(*nodes), [e for e in endpoints if is_leaving(e)])
        held = reference_reclaim.outlast(nodes, endpoints, wanted)
        assert outlast(later, endpoints, wanted) == held, f"trial {trial}"
        num_victims.add(None if found is None else len(found.victims))
    most = max(count or 0 for count in num_victims)
    assert num_victims >= {None, 0, 1, 2} and most > 2, "every kind of answer was compared"


def test_what_sums_say_of_freed_room_is_what_the_planner_says_at_once() -> None:
    rng = random.Random(5)
    for trial in range(200):
        wanted = random_model(rng)
        nodes, endpoints = with_endpoints(rng, random_nodes(rng, wanted, max_nodes=60), wanted)
        leaving = rng.sample(endpoints, rng.randint(0, len(endpoints)))
        shape, there = ModelShape(wanted), cluster(*nodes)

        largest = without(there, leaving).largest_rooms(wanted.summary.dtype, shape.num_stages)

        suffices = sum(largest) >= shape.needed_bytes
        assert FreedRoom(there, shape).may_suffice(leaving) == suffices, f"trial {trial}"
