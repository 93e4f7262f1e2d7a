from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.engines import PRIORS
from libs.common.states import EngineKind
from services.scheduler.policy.cluster import DeviceSize
from services.scheduler.policy.nodes.cluster import Cluster
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.planning.feasibility import shortage
from services.scheduler.policy.planning.memory import full_bytes
from services.scheduler.policy.planning.planner import fits_in, plan
from services.scheduler.policy.planning.plans import NoRoom, Plan
from services.scheduler.policy.planning.projected_cluster import empty_cluster, with_plans
from tests.unit.scheduler.values import (
    cluster,
    deployable,
    device,
    model,
    node,
    summary,
    unit_digest,
)

# summary() has 510 bytes of weights; KV: one byte for each of 4 slots of 512 tokens = 2048.
NEEDED = 2558
A = device("a", memory=9999)


def stages_of(found: Plan | NoRoom) -> list[str]:
    assert isinstance(found, Plan)
    return [stage.node_id for stage in found.stages]


@pytest.mark.parametrize(
    ("nodes", "expected", "reason"),
    [
        ((node(device("a", memory=NEEDED)),), "a", "it fits exactly"),
        (
            (node(device("a", memory=NEEDED, reserved=1)), node(device("b", memory=NEEDED))),
            "b",
            "one byte is reserved on the other",
        ),
        (
            (node(device("a", memory=9999)), node(device("b", memory=9999), nic=2000)),
            "b",
            "its network is faster",
        ),
        (
            (node(device("a", memory=9999), num_fetches=1), node(device("b", memory=9999))),
            "b",
            "nobody shares its network",
        ),
        (
            (node(device("a", memory=9999)), node(device("b", memory=5000), num_standbys=1)),
            "b",
            "a process waits there",
        ),
        (
            (
                node(device("a", memory=9999), nic=1001),
                node(device("b", memory=9999), num_standbys=1),
            ),
            "b",
            "a process waits there, while elsewhere the bytes would wait for an import",
        ),
        (
            (
                node(device("a", memory=9999), nic=400),
                node(device("b", memory=9999), nic=200, num_standbys=1),
            ),
            "a",
            "a process waits elsewhere, but the bytes are there much sooner",
        ),
        (
            (
                node(device("a", memory=9999), nic=100),
                node(device("b", memory=9999), nic=101),
                node(device("c", memory=9999), nic=100, num_standbys=1),
            ),
            "b",
            "imports end before the bytes are there: the network decides",
        ),
        (
            (node(device("a", memory=9000)), node(device("b", memory=9999))),
            "b",
            "equal otherwise: the emptier device",
        ),
        (
            (node(device("b", memory=9999)), node(device("a", memory=9999))),
            "a",
            "equal in everything: always the same choice",
        ),
        (
            (node(device("a", memory=9999), nic=0), node(device("b", memory=9999), nic=10**9)),
            "a",
            "no configured cap counts as 10 Gbit/s",
        ),
    ],
)
def test_the_node_that_has_the_bytes_soonest_among_those_with_memory(
    nodes: tuple[Node, ...], expected: str, reason: str
) -> None:
    chosen = plan(cluster(*nodes), deployable())

    assert isinstance(chosen, Plan), reason
    assert [stage.node_id for stage in chosen.stages] == [expected], reason


@pytest.mark.parametrize(
    ("b", "num_cached"),
    [
        pytest.param(node(device("b", memory=9000)), 1, id="part of the weights is there"),
        pytest.param(
            node(device("b", memory=9000), nic=10, num_fetches=5), 4, id="nothing is to be fetched"
        ),
    ],
)
def test_the_node_whose_host_cache_makes_it_the_soonest(b: Node, num_cached: int) -> None:
    nodes = cluster(node(device("a", memory=9999)), b)
    held = [unit_digest(i) for i in range(num_cached)]

    chosen = plan(nodes, deployable(cached={"b": held}))

    assert isinstance(chosen, Plan) and [stage.node_id for stage in chosen.stages] == ["b"]
    assert chosen.stages[0].cached_bytes == sum(
        summary().units[i].size_bytes for i in range(num_cached)
    )
    assert stages_of(plan(nodes, deployable())) == ["a"]


def test_no_room_names_what_is_needed_and_the_largest_free_piece() -> None:
    small = cluster(node(device("a", memory=5000, reserved=3000)), node(device("b", memory=2500)))

    assert plan(small, deployable()) == NoRoom(needed_bytes=NEEDED, largest_free_bytes=2500)


def test_the_largest_free_piece_is_never_less_than_nothing() -> None:
    crowded = cluster(node(device("a", memory=5000, reserved=4000, worker_bytes=2000)))

    assert plan(crowded, deployable()) == NoRoom(needed_bytes=NEEDED, largest_free_bytes=0)


@pytest.mark.parametrize(("dtype", "chosen"), [("BF16", "new"), ("F16", "old"), ("F32", "old")])
def test_a_bfloat16_model_goes_where_that_is_computed(dtype: str, chosen: str) -> None:
    old = replace(device("old", memory=9999), has_bfloat16=False)
    nodes = cluster(node(old, nic=10**6), node(device("new", memory=9999)))

    found = plan(nodes, deployable(summary_=summary(dtype=dtype)))

    assert isinstance(found, Plan) and found.stages[0].node_id == chosen


def test_where_nothing_computes_a_models_type_it_could_never_run() -> None:
    known = [DeviceSize("old", 0, 10**6, has_bfloat16=False)]

    assert "is bfloat16, which none of the devices computes" in str(shortage(deployable(), known))
    assert shortage(deployable(summary_=summary(dtype="F16")), known) is None
    with_new = [*known, DeviceSize("new", 0, 1)]
    assert "the largest has 1;" in str(shortage(deployable(), with_new))


def test_an_empty_cluster_has_no_room() -> None:
    assert plan(Cluster.of(()), deployable()) == NoRoom(NEEDED, 0)


def test_the_stage_holds_every_unit_in_reading_order_and_a_share_of_the_cores() -> None:
    there = cluster(node(device("a", memory=2 * NEEDED, cores=8)))

    chosen = plan(there, deployable(cached={"a": [unit_digest(0)]}))

    assert isinstance(chosen, Plan)
    (stage,) = chosen.stages
    assert stage.unit_digests == tuple(unit_digest(i) for i in range(4))
    assert (stage.layers.first_layer, stage.layers.last_layer) == (0, 2)
    assert (stage.weight_bytes, stage.cached_bytes, stage.kv_bytes) == (510, 100, 2048)
    assert stage.device_bytes == NEEDED
    assert stage.cores == 4


def test_each_worker_takes_what_a_process_needs_of_a_gpu_beside_its_plan() -> None:
    gpu = DeviceSize("a", 0, NEEDED + 100, worker_bytes=100)

    assert fits_in([gpu], deployable())
    assert not fits_in([replace(gpu, worker_bytes=101)], deployable())
    chosen = plan(empty_cluster([gpu]), deployable())
    assert isinstance(chosen, Plan)
    assert chosen.stages[0].device_bytes == NEEDED + 100


def test_fits_in_counts_the_last_byte() -> None:
    assert fits_in([DeviceSize("a", 0, NEEDED)], deployable())
    assert not fits_in([DeviceSize("a", 0, NEEDED - 1)], deployable())


@given(
    memories=st.lists(st.integers(1, 10_000), max_size=6),
    reserved=st.lists(st.integers(0, 10_000), min_size=6, max_size=6),
    kv=st.integers(0, 5000),
)
def test_a_plan_never_takes_more_than_is_free_and_is_found_whenever_one_exists(
    memories: list[int], reserved: list[int], kv: int
) -> None:
    devices = [
        device(f"node-{i}", memory=m, reserved=min(m, reserved[i])) for i, m in enumerate(memories)
    ]
    wanted = deployable(model(kv_cache_bytes=kv), summary())
    needed = full_bytes(wanted.model, wanted.summary)

    chosen = plan(cluster(*(node(d) for d in devices)), wanted)

    free = {d.node_id: d.free_bytes for d in devices}
    if isinstance(chosen, Plan):
        assert free[chosen.stages[0].node_id] >= needed == chosen.stages[0].device_bytes
        assert 1 <= chosen.stages[0].cores <= 4
    else:
        assert all(bytes_ < needed for bytes_ in free.values())


@pytest.mark.parametrize(
    ("nic", "num_standbys", "start_s"),
    [
        pytest.param(51, 1, 10.0, id="the network takes longer anyhow"),
        pytest.param(51, 0, 10.0, id="longer than an import"),
        pytest.param(510, 0, PRIORS[EngineKind.STAGE].launch_s, id="an import takes longer"),
        pytest.param(510, 1, 1.0, id="no import"),
    ],
)
def test_a_start_takes_as_long_as_its_fetch_or_its_import(
    nic: int, num_standbys: int, start_s: float
) -> None:
    found = plan(cluster(node(A, nic=nic, num_standbys=num_standbys)), deployable())

    assert isinstance(found, Plan)
    assert found.start_s == start_s


@pytest.mark.parametrize(
    ("launch_s", "num_standbys", "start_s"),
    [
        pytest.param(4.0, 0, 4.0, id="slower than the prior says"),
        pytest.param(0.5, 0, 1.0, id="faster than the fetch"),
        pytest.param(4.0, 1, 1.0, id="no import"),
    ],
)
def test_what_was_measured_of_launches_on_a_node_is_what_a_plan_expects_there(
    launch_s: float, num_standbys: int, start_s: float
) -> None:
    there = replace(A, launch_s=launch_s)
    found = plan(cluster(node(there, nic=510, num_standbys=num_standbys)), deployable())

    assert isinstance(found, Plan)
    assert found.start_s == start_s


def test_a_node_that_was_seen_to_launch_faster_is_chosen_where_launches_decide() -> None:
    slow, fast = replace(A, launch_s=3.0), replace(device("b", memory=5000), launch_s=2.0)

    found = plan(cluster(node(slow, nic=510), node(fast, nic=510)), deployable())

    assert isinstance(found, Plan)
    assert (found.stages[0].node_id, found.start_s) == ("b", 2.0)


def test_a_plan_takes_the_standbys_that_it_starts_from() -> None:
    there = cluster(node(A, num_standbys=1), node(device("b", memory=9999)))
    found = plan(there, deployable())
    assert isinstance(found, Plan)

    after = with_plans(there, [found, found])

    assert [n.num_standbys for n in after.nodes] == [0, 0]


def test_a_start_of_the_same_round_is_expected_to_share_the_network() -> None:
    there = cluster(
        node(device("fast", memory=9999), nic=1500), node(device("slow", memory=9999), nic=1000)
    )
    first = plan(there, deployable())
    assert isinstance(first, Plan)

    second = plan(with_plans(there, [first]), deployable())

    assert isinstance(second, Plan)
    assert [first.stages[0].node_id, second.stages[0].node_id] == ["fast", "slow"]
