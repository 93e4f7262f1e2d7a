"""When weights are prefetched, which and where; and for whom nothing is."""

from dataclasses import replace

import pytest

from libs.common.states import PrefetchState
from services.scheduler.policy.limits import Limits
from tests.unit.scheduler.prefetching.expected import (
    FILE_BYTES,
    FROM_S,
    UNTIL_S,
    ExpectedModels,
    auto,
    later,
    sweep,
)
from tests.unit.scheduler.snapshots import NOW_S, a_model
from tests.unit.scheduler.values import unit_digest

# What is 510 bytes long takes 51 s, and is begun twice as long before it is expected.
BEGIN_S = FROM_S - 2 * 51.0  # 328.5 s after the last request


def test_a_fetch_begins_twice_as_early_as_it_takes() -> None:
    early = ExpectedModels(idle_s=BEGIN_S - 1.0).add_node().add_model(auto())
    due = ExpectedModels(idle_s=BEGIN_S + 0.01).add_node().add_model(auto())

    assert sweep(early.snapshot()).why_not == "its fetch need not begin yet"
    assert sweep(due.snapshot()).nodes == ["node-1"]


def test_what_is_not_due_is_looked_at_again_when_it_is() -> None:
    early = sweep(ExpectedModels(idle_s=BEGIN_S - 20.0).add_node().add_model(auto()).snapshot())

    assert early.deferred[0].until_s == pytest.approx(NOW_S + 20.0)
    assert not sweep(later(early.after, 19.0)).deferred, "it is not planned each second"
    assert sweep(later(early.after, 20.01)).nodes == ["node-1"]


def test_on_a_busy_network_it_begins_earlier() -> None:
    """Half of the rate: 102 s, so 204 s before it is expected."""
    slow = ExpectedModels(idle_s=FROM_S - 203.0).add_node(nic_bytes_per_s=5).add_model(auto())

    assert sweep(slow.snapshot()).nodes == ["node-1"]


def test_it_has_all_the_units_of_a_worker_in_their_order_and_two_deadlines() -> None:
    found = sweep(ExpectedModels().add_node().add_model(auto()).snapshot()).starts[0]

    prefetch, until_s = found.prefetch, NOW_S - 400.0 + UNTIL_S
    assert prefetch.unit_digests == tuple(map(unit_digest, range(4)))
    assert (prefetch.tenant, prefetch.manifest_digest) == ("tenant-1", "manifest of model-1")
    assert prefetch.file_bytes == FILE_BYTES
    assert prefetch.expires_at_s == pytest.approx(until_s)
    assert prefetch.deadline_at_s == pytest.approx(until_s), "sooner than ten times 51 s"
    assert found.why == "it is expected in 31 s, and its fetch takes 51 s"


def test_a_short_fetch_is_dropped_long_before_its_model_is_not_expected_any_more() -> None:
    """At 100 bytes/s it takes 5.1 s, a minute at most."""
    quick = ExpectedModels(idle_s=425.0).add_node(nic_bytes_per_s=100).add_model(auto())

    assert sweep(quick.snapshot()).starts[0].prefetch.deadline_at_s == pytest.approx(NOW_S + 60.0)


def test_a_node_that_has_some_of_it_fetches_the_rest() -> None:
    """200 of 510 bytes are missing: 20 s, so it begins 40 s before."""
    made = ExpectedModels(idle_s=FROM_S - 41.0).add_node().add_model(auto())
    made.hold("node-1", unit_digest(0), unit_digest(1), unit_digest(3))

    assert sweep(made.snapshot()).why_not == "its fetch need not begin yet"
    found = sweep(replace(made, idle_s=FROM_S - 39.0).add_model(auto()).snapshot())
    assert found.starts[0].prefetch.unit_digests == tuple(map(unit_digest, range(4)))


def test_a_pipeline_is_fetched_on_all_its_nodes() -> None:
    """Whole it fits nowhere: 610 bytes with its KV cache, and 400 on each node."""
    made = ExpectedModels().add_node("node-1", memory_bytes=400)
    made.add_node("node-2", memory_bytes=400).add_model(auto(max_pipeline_size=2))

    starts = sweep(made.snapshot()).starts

    assert sorted(start.prefetch.node_id for start in starts) == ["node-1", "node-2"]
    units = [unit for start in starts for unit in start.prefetch.unit_digests]
    assert sorted(units) == [unit_digest(i) for i in range(4)]
    assert len({start.prefetch.fetch_id for start in starts}) == 2


def test_where_others_hold_the_devices_it_goes_where_they_would_give_way() -> None:
    made = ExpectedModels().add_node(memory_bytes=700).add_model(auto())
    made.serve(a_model("other"), device_bytes=650)

    assert sweep(made.snapshot()).nodes == ["node-1"]


def test_nothing_is_fetched_twice() -> None:
    first = sweep(ExpectedModels().add_node().add_model(auto()).snapshot())

    again = sweep(later(first.after, 1.0))

    assert not again.starts and not again.ends
    assert [p.state for p in again.after.prefetches] == [PrefetchState.RUNNING]


def test_those_that_are_expected_first_are_first() -> None:
    made = ExpectedModels().add_node()
    made.add_model(auto("a"), idle_s=400.0).add_model(auto("b"), idle_s=425.0)

    found = sweep(made.snapshot())

    assert [start.model_id for start in found.starts] == ["b"]
    assert found.deferred[0].why == "node node-1 prefetches for another model"


def test_models_that_are_expected_together_go_to_nodes_that_do_not_prefetch_yet() -> None:
    made = ExpectedModels().add_node("node-1").add_node("node-2")
    for name in ("a", "b", "c"):
        made.add_model(auto(name))

    found = sweep(made.snapshot())

    assert [(start.model_id, start.prefetch.node_id) for start in found.starts] == [
        ("a", "node-1"),
        ("b", "node-2"),
    ]
    assert [x.model_id for x in found.deferred] == ["c"]


def test_there_are_no_more_in_the_cluster_than_are_allowed() -> None:
    made = ExpectedModels()
    made.cluster.limits = Limits(max_prefetches=2)
    for index in range(3):
        made.add_node(f"node-{index}").add_model(auto(f"model-{index}"))

    found = sweep(made.snapshot())

    assert [start.model_id for start in found.starts] == ["model-0", "model-1"]


def test_a_pipeline_of_more_nodes_than_are_allowed_is_not_fetched_in_part() -> None:
    made = ExpectedModels().add_node("node-1", memory_bytes=400)
    made.add_node("node-2", memory_bytes=400).add_model(auto(max_pipeline_size=2))
    made.cluster.limits = Limits(max_prefetches=1)

    assert sweep(made.snapshot()).why_not == "other models' weights are prefetched"
