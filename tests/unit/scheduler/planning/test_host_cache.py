"""The planner and the nodes' host caches: what fits where, and what never will."""

from services.scheduler.policy.cluster import DeviceSize
from services.scheduler.policy.nodes.cached_units import CachedUnits, holders_of
from services.scheduler.policy.nodes.node import CachePin, Node
from services.scheduler.policy.planning.feasibility import shortage
from services.scheduler.policy.planning.memory import file_bytes, files_bytes
from services.scheduler.policy.planning.planner import fits_in, plan
from services.scheduler.policy.planning.plans import NoRoom, Plan
from services.scheduler.policy.planning.projected_cluster import with_plans
from tests.unit.scheduler.values import (
    DIGEST,
    cluster,
    deployable,
    device,
    model,
    snapshot,
    summary,
    unit_digest,
)

SUMMARY = summary(unit_sizes=(100_000, 200_000, 200_000, 200_000, 200_000, 10_000))
WHOLE = files_bytes(SUMMARY)
ALONE = deployable(model(kv_cache_bytes=80), SUMMARY)
PIPELINE = deployable(model(kv_cache_bytes=80, max_pipeline_size=4), SUMMARY)


def caching(
    name: str, capacity: int, *, memory: int = 10_000_000, held: dict[str, int] | None = None
) -> Node:
    there = device(name, memory=memory)
    cache_pins = (CachePin(f"worker-{name}", held),) if held else ()
    return Node(name, (there,), 1000, 0, False, capacity, cache_pins)


def stages(found: Plan | NoRoom) -> list[str]:
    assert isinstance(found, Plan)
    return [stage.node_id for stage in found.stages]


def test_a_model_goes_where_its_files_fit_to_the_byte() -> None:
    small, large = caching("a", WHOLE - 1, memory=20_000_000), caching("b", WHOLE)

    assert stages(plan(cluster(small, large), ALONE)) == ["b"]
    assert isinstance(plan(cluster(small), ALONE), NoRoom)


def test_what_other_workers_hold_is_no_room_and_what_they_share_costs_nothing() -> None:
    others = caching("a", WHOLE + 4, held={"other": 5})
    twin = caching("b", WHOLE, held={unit.digest: file_bytes(unit) for unit in SUMMARY.units})

    assert stages(plan(cluster(others, twin), ALONE)) == ["b"]
    assert isinstance(plan(cluster(others), ALONE), NoRoom)


def test_a_model_larger_than_any_host_cache_lies_on_several_nodes() -> None:
    nodes = [caching(f"node-{i}", WHOLE // 2) for i in range(4)]

    found = plan(cluster(*nodes), PIPELINE)

    assert isinstance(found, Plan)
    assert len(found.stages) >= 3
    for stage in found.stages:
        assert sum(file_bytes(unit) for unit in stage.units) <= WHOLE // 2


def test_each_stage_fits_the_host_cache_of_its_own_node() -> None:
    nodes = [caching("small", 430_000), caching("large", 700_000)]

    found = plan(
        cluster(*nodes), deployable(model(kv_cache_bytes=80, max_pipeline_size=2), SUMMARY)
    )

    assert isinstance(found, Plan)
    used = {s.node_id: sum(file_bytes(unit) for unit in s.units) for s in found.stages}
    assert used["small"] <= 430_000 and used["large"] <= 700_000


def test_two_stages_on_one_node_share_its_host_cache() -> None:
    devices = (device("a", memory=500_000), device("a", memory=500_000, index=1))
    cramped = Node("a", devices, 1000, 0, False, WHOLE // 2)

    assert isinstance(plan(cluster(cramped), PIPELINE), NoRoom)


def test_a_planned_stage_is_taken_from_its_nodes_memory_and_cache() -> None:
    there = cluster(caching("a", 2 * WHOLE - 1, memory=1_000_000))
    found = plan(there, ALONE)
    assert isinstance(found, Plan)

    after = with_plans(there, [found])

    (only,) = after.nodes
    assert only.held_bytes == WHOLE
    assert only.num_fetches == 1
    assert only.devices[0].reserved_bytes == found.stages[0].device_bytes


def test_what_never_fits_is_said_with_the_number_that_is_too_small() -> None:
    def sizes(*caches: int | None) -> list[DeviceSize]:
        return [DeviceSize(f"node-{i}", 0, 10_000_000, cache) for i, cache in enumerate(caches)]

    assert shortage(ALONE, []) is None, "nothing is known yet"
    assert shortage(ALONE, sizes(None)) is None
    assert shortage(ALONE, sizes(WHOLE)) is None
    assert shortage(PIPELINE, sizes(*[WHOLE // 2] * 4)) is None
    message = shortage(ALONE, sizes(WHOLE - 1, 5)) or ""
    assert f"{WHOLE} bytes of host cache" in message and f"has {WHOLE - 1}" in message
    message = shortage(ALONE, [DeviceSize("a", 0, 1000, WHOLE)]) or ""
    assert "bytes of device memory" in message and "has 1000" in message


def test_the_device_with_the_memory_is_found_although_another_has_the_larger_cache() -> None:
    heavy = deployable(model(kv_cache_bytes=5_000_000), SUMMARY)

    other = DeviceSize("b", 0, 1_000_000, 9 * WHOLE)

    assert fits_in([DeviceSize("a", 0, 6_000_000, WHOLE), other], heavy)
    assert not fits_in([DeviceSize("a", 0, 6_000_000, WHOLE - 1), other], heavy)


def test_the_planner_is_told_which_of_the_models_units_each_node_holds() -> None:
    nodes = {unit_digest(1): ["a"], unit_digest(99): ["a", "b"]}
    units = {DIGEST: frozenset(unit.digest for unit in summary().units)}
    before = snapshot().changed(cached=CachedUnits().including(holders_of(units, nodes)))

    told = before.deployable(before.models["model-1"])

    assert told is not None and told.cached == {"a": {unit_digest(1)}}
