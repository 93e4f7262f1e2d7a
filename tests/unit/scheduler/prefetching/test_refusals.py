"""For whom nothing is prefetched, and why."""

from dataclasses import replace

import pytest

from libs.common.states import EndpointState, ModelState
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.gap_history import GapHistory, history_of
from tests.unit.scheduler.prefetching.expected import (
    FILE_BYTES,
    UNTIL_S,
    ExpectedModels,
    auto,
    sweep,
)
from tests.unit.scheduler.snapshots import NOW_S, a_model, a_request
from tests.unit.scheduler.values import summary, unit_digest

NOTHING = {
    "its weights are there": (
        ExpectedModels().add_model(auto()).hold("node-1", *map(unit_digest, range(4))),
        "its weights are in host caches already",
    ),
    "it starts in time": (
        ExpectedModels().add_model(auto(slo_ttft_s=60.0)),
        "it starts in time also without them",
    ),
    # 0.81 of the gaps, 0.3 s late and worth 600 each: 146 s for memory that is held for 229 s.
    "it is hardly late": (
        ExpectedModels().add_model(auto(slo_ttft_s=50.8)),
        "it would hold memory for longer than the start that it saves is worth",
    ),
    "it fits nowhere": (
        ExpectedModels().add_model(auto(), summary(unit_sizes=(100, 2000, 2000, 10))),
        "there is no room that it could start in",
    ),
    "its fetch is too slow": (
        ExpectedModels(idle_s=570.0).add_model(auto()),
        "its fetch would be done too late",
    ),
}


@pytest.mark.parametrize(("made", "why"), NOTHING.values(), ids=NOTHING.keys())
def test_nothing_is_fetched_for_a_model_that_would_not_gain(made: ExpectedModels, why: str) -> None:
    assert sweep(made.add_node().snapshot()).why_not == why


NOT_LOOKED_AT = {
    "its keep-alive is fixed": ExpectedModels().add_model(auto(is_keep_alive_auto=False)),
    "it is imported": ExpectedModels().add_model(auto(state=ModelState.IMPORTING)),
    "it is deleted": ExpectedModels().add_model(auto(state=ModelState.DELETING)),
    "it backs off": ExpectedModels().add_model(auto(backoff_until_s=NOW_S + 10.0)),
    "nothing is known": ExpectedModels(gaps=GapHistory()).add_model(auto()),
    "it is asked irregularly": ExpectedModels(
        gaps=history_of([3.0, 90.0, 2500.0, 40.0, 700.0, 11.0, 9000.0, 300.0, 1500.0, 130.0])
    ).add_model(auto()),
    "its window is over": ExpectedModels(idle_s=UNTIL_S + 1.0).add_model(auto()),
    "its endpoint has just gone": ExpectedModels(idle_s=10.0).add_model(auto()),
}


@pytest.mark.parametrize("made", NOT_LOOKED_AT.values(), ids=NOT_LOOKED_AT.keys())
def test_a_model_that_is_not_expected_is_not_even_planned(made: ExpectedModels) -> None:
    found = sweep(made.add_node().snapshot())

    assert not found.starts and not found.deferred


def test_nothing_is_fetched_for_a_model_that_has_an_endpoint() -> None:
    made = ExpectedModels().add_node().add_model(auto())
    made.serve(auto())

    found = sweep(made.snapshot())

    assert not found.starts and not found.deferred


def test_nor_for_one_for_which_somebody_waits() -> None:
    """Its own room is being made."""
    made = ExpectedModels().add_node(memory_bytes=700).add_model(auto())
    made.serve(a_model("other"), device_bytes=650)
    made.cluster.add_request(a_request("request-1", "model-1"))

    found = sweep(made.snapshot())

    assert not found.starts and not found.deferred


def test_one_that_an_endpoint_is_started_ahead_for_needs_no_prefetch() -> None:
    """It is expected from 512 s on, and starts 5 s before."""
    made = ExpectedModels(idle_s=508.0).add_node().add_model(auto())
    made.changes["unasked"] = frozenset({"model-1"})

    found = sweep(made.snapshot())

    assert not found.starts
    states = [e.state for e in found.after.endpoints.by("model", "model-1")]
    assert states == [EndpointState.STARTING]


def test_it_takes_no_more_than_a_share_of_the_host_cache() -> None:
    made = ExpectedModels().add_node(cache_capacity_bytes=2 * FILE_BYTES - 1).add_model(auto())

    found = sweep(made.snapshot())

    assert found.why_not == "prefetches may take no more of the host cache of node node-1"
    enough = replace(made, cluster=replace(made.cluster, fetchers={}, agents={}))
    enough.add_node(cache_capacity_bytes=2 * FILE_BYTES)
    assert sweep(enough.snapshot()).nodes == ["node-1"]


def test_it_takes_nothing_that_workers_hold() -> None:
    """Half of the cache would do, and workers hold the other model's unit of as many bytes."""
    cache_bytes = 2 * FILE_BYTES
    made = ExpectedModels().add_node(cache_capacity_bytes=cache_bytes).add_model(auto())
    held = summary(unit_sizes=(FILE_BYTES, 1, 1, 1))
    units = tuple(
        u.model_copy(update={"digest": f"{i + 9:064x}"}) for i, u in enumerate(held.units)
    )
    made.serve(a_model("other"), held.model_copy(update={"units": units}))

    assert sweep(made.snapshot()).why_not == "workers hold the host cache of node node-1"


def test_one_whose_activity_is_not_known_is_passed_over() -> None:
    made = ExpectedModels().add_node().add_model(auto())
    made.changes["activities"] = {"model-1": ModelActivity()}

    assert not sweep(made.snapshot()).starts


def test_nothing_is_begun_before_every_node_has_had_the_time_to_be_heard() -> None:
    """One of those that were not may have the weights."""
    made = ExpectedModels().add_node().add_model(auto())
    made.cluster.limits = Limits(acquaintance_s=200.0)

    found = sweep(made.snapshot())

    assert not found.starts and not found.deferred
