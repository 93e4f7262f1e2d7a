"""Whether a model could ever fit, and whether it is planned where nothing runs, is one question."""

import random
from dataclasses import replace

import pytest

from services.scheduler.policy.cluster import Deployable, DeviceSize
from services.scheduler.policy.nodes.cluster import Cluster
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.planning.memory import files_bytes, full_bytes
from services.scheduler.policy.planning.planner import fits_in, plan
from services.scheduler.policy.planning.plans import Plan
from tests.unit.scheduler.values import cluster, deployable, device, model, node, summary

UNIT_BYTES = 1_000_000
COUNTS = pytest.mark.parametrize("num_trials", [150, pytest.param(500, marks=pytest.mark.long)])


def random_model(rng: random.Random, *layer_units: int) -> Deployable:
    layers = [rng.choice(layer_units) * UNIT_BYTES for _ in range(rng.randint(1, 8))]
    sizes = (rng.randint(1, 4) * UNIT_BYTES, *layers, 10)
    return deployable(model(max_pipeline_size=rng.randint(1, 5)), summary(unit_sizes=sizes))


def random_node(rng: random.Random, name: str, wanted: Deployable) -> Node:
    full = full_bytes(wanted.model, wanted.summary)
    cache = rng.choice((None, int(files_bytes(wanted.summary) * rng.uniform(0.2, 1.3))))
    devices = [
        device(name, memory=int(full * rng.uniform(0.1, 0.9)), index=index)
        for index in range(rng.choice((1, 1, 2, 3)))
    ]
    return replace(node(*devices, nic=rng.choice((1000, 5000, 10**6))), cache_bytes=cache)


def warmed(rng: random.Random, wanted: Deployable, there: Cluster) -> Deployable:
    """The same at another time: nodes have some of the weights in their host caches."""
    digests = [unit.digest for unit in wanted.summary.units]
    some = {n.id: rng.sample(digests, rng.randint(0, len(digests))) for n in there.nodes}
    return deployable(wanted.model, wanted.summary, some)


def fetching(rng: random.Random, there: Cluster) -> Cluster:
    return cluster(*(replace(node_, num_fetches=rng.randint(0, 3)) for node_ in there.nodes))


def sizes_of(there: Cluster) -> list[DeviceSize]:
    return [
        DeviceSize(n.id, d.index, d.memory_bytes, n.cache_bytes, n.nic_bytes_per_s)
        for n in there.nodes
        for d in n.devices
    ]


@COUNTS
def test_what_fits_is_planned_and_what_is_planned_fits(num_trials: int) -> None:
    rng = random.Random(1)
    for trial in range(num_trials):
        wanted = random_model(rng, 1, 2, 3)
        names = [f"node-{i}" for i in range(rng.randint(1, 5))]
        there = cluster(*(random_node(rng, name, wanted) for name in names))

        is_planned = isinstance(plan(there, wanted), Plan)

        assert fits_in(sizes_of(there), wanted) == is_planned, f"trial {trial}"


@COUNTS
def test_what_fits_is_planned_also_where_some_weights_are_cached(num_trials: int) -> None:
    rng = random.Random(2)
    for trial in range(num_trials):
        wanted = random_model(rng, 2)
        names = [f"node-{i}" for i in range(rng.randint(1, 5))]
        there = cluster(*(random_node(rng, name, wanted) for name in names))
        later, warm = fetching(rng, there), warmed(rng, wanted, there)

        if fits_in(sizes_of(there), wanted):
            assert isinstance(plan(later, warm), Plan), f"trial {trial}"


def test_a_small_node_that_only_embeds_makes_the_model_fit() -> None:
    wanted = deployable(
        model(max_pipeline_size=3), summary(unit_sizes=(UNIT_BYTES, 2 * UNIT_BYTES, 10))
    )
    large, small = DeviceSize("a", 0, 2_350_000), DeviceSize("b", 0, 1_360_000)

    assert fits_in([large, small], wanted)
    assert not fits_in([large], wanted)
