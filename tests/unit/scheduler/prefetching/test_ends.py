"""How prefetches end."""

from typing import Any

import pytest

from libs.common.causes import Cause, CauseKind
from libs.common.states import FetchState, ModelState, PrefetchState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.changes import Changed
from services.scheduler.policy.decide import decide_round
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.prefetching.prefetch import Prefetch, prefetch_table
from tests.unit.scheduler.prefetching.expected import (
    FILE_BYTES,
    WEIGHTS,
    ExpectedModels,
    Swept,
    auto,
    later,
    sweep,
)
from tests.unit.scheduler.snapshots import NOW_S, a_model, a_request
from tests.unit.scheduler.values import fetch, summary, unit_digest


def prefetch(**changes: Any) -> Prefetch:
    values: dict[str, Any] = {
        "id": "prefetch-1",
        "tenant": "tenant-1",
        "model_id": "model-1",
        "node_id": "node-1",
        "fetch_id": "prefetched",
        "manifest_digest": "manifest of model-1",
        "unit_digests": tuple(map(unit_digest, range(4))),
        "file_bytes": FILE_BYTES,
        "deadline_at_s": NOW_S + 60.0,
        "expires_at_s": NOW_S + 200.0,
    }
    return Prefetch(**{**values, **changes})


COMPLETE = prefetch(state=PrefetchState.COMPLETE)


def with_one(own: Prefetch, made: ExpectedModels | None = None) -> ExpectedModels:
    made = made or ExpectedModels().add_node().add_node("node-2").add_model(auto())
    made.changes["prefetches"] = prefetch_table([own])
    return made


def state_of(found: Swept) -> PrefetchState | None:
    """In which the only one has ended; None: it goes on."""
    assert len(found.ends) <= 1
    return found.ends[0].state if found.ends else None


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (FetchState.QUEUED, None),
        (FetchState.FETCHING, None),
        (FetchState.COMPLETE, PrefetchState.COMPLETE),
        (FetchState.FAILED, PrefetchState.FAILED),
    ],
)
def test_it_follows_what_its_fetcher_says(seen: FetchState, expected: PrefetchState | None) -> None:
    made = with_one(prefetch())
    made.cluster.hear_fetch("node-1", fetch(seen, fetch_id="prefetched"))

    assert state_of(sweep(made.snapshot())) is expected


def test_why_it_failed_is_told_and_it_is_not_tried_again_while_its_model_is_expected() -> None:
    made = with_one(prefetch())
    cause = Cause(CauseKind.HOST_CACHE_FULL)
    failed = fetch(FetchState.FAILED, fetch_id="prefetched", cause=cause)
    made.cluster.hear_fetch("node-1", failed)

    found = sweep(made.snapshot())

    assert "host cache" in found.ends[0].why
    assert not found.after.prefetches.rows
    assert not sweep(later(found.after, 100.0)).starts


def test_what_is_complete_counts_until_its_model_is_not_expected_any_more() -> None:
    made = with_one(prefetch())
    made.cluster.hear_fetch("node-1", fetch(FetchState.COMPLETE, fetch_id="prefetched"))

    complete = sweep(made.snapshot()).after
    still = sweep(later(complete, 199.0))
    over = sweep(later(still.after, 1.0))

    assert [p.state for p in complete.prefetches] == [PrefetchState.COMPLETE]
    assert (state_of(still), state_of(over)) == (None, PrefetchState.UNUSED)
    assert not over.after.prefetches.rows


def test_one_that_is_not_complete_by_its_deadline_is_dropped() -> None:
    made = with_one(prefetch())
    made.cluster.hear_fetch("node-1", fetch(FetchState.FETCHING, fetch_id="prefetched"))

    assert state_of(sweep(later(made.snapshot(), 59.0))) is None
    assert state_of(sweep(later(made.snapshot(), 60.0))) is PrefetchState.LATE


def test_so_is_one_of_a_node_that_says_nothing() -> None:
    made = with_one(prefetch(node_id="gone"))

    assert state_of(sweep(made.snapshot())) is None
    assert state_of(sweep(later(made.snapshot(), 60.0))) is PrefetchState.LATE


@pytest.mark.parametrize("own", [prefetch(), COMPLETE], ids=["running", "complete"])
@pytest.mark.parametrize(
    "change",
    [
        {"state": ModelState.DELETING},
        {"state": ModelState.IMPORTING},
        {"is_keep_alive_auto": False},
        {"manifest_digest": "another one"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_it_ends_with_its_model(own: Prefetch, change: dict[str, Any]) -> None:
    made = ExpectedModels().add_node().add_model(auto())
    made.cluster.models["model-1"] = auto(**change)

    assert state_of(sweep(with_one(own, made).snapshot())) is PrefetchState.UNWANTED


def test_one_of_a_model_that_is_gone_ends_too() -> None:
    made = ExpectedModels().add_node()

    assert state_of(sweep(with_one(COMPLETE, made).snapshot())) is PrefetchState.UNWANTED


@pytest.mark.parametrize(
    ("node_id", "expected"),
    [("node-1", PrefetchState.USED), ("node-2", PrefetchState.UNUSED)],
)
def test_it_is_used_by_an_endpoint_on_its_node(node_id: str, expected: PrefetchState) -> None:
    made = with_one(COMPLETE)
    made.serve(auto(), node_id=node_id)

    assert state_of(sweep(made.snapshot())) is expected


def test_it_is_used_in_the_round_in_which_the_endpoint_starts() -> None:
    """That is no sweep, and before the next one the endpoint may have gone again."""
    made = with_one(COMPLETE, ExpectedModels().add_node().add_model(auto()))
    made.cluster.add_request(a_request("request-1", "model-1"))

    decided = decide_round(made.snapshot(), Changed(models=frozenset({"model-1"})), NodeMemo())

    assert [x.model_id for x in decided.decisions if isinstance(x, d.StartEndpoint)] == ["model-1"]
    ends = [x.state for x in decided.decisions if isinstance(x, d.EndPrefetch)]
    assert ends == [PrefetchState.USED]


def test_what_is_on_its_way_elsewhere_ends_when_an_endpoint_starts() -> None:
    made = with_one(prefetch())
    made.serve(auto(), node_id="node-2")

    assert state_of(sweep(made.snapshot())) is PrefetchState.OVERTAKEN


def test_where_an_endpoint_starts_it_ends_once_the_fetcher_has_the_fetch_of_that() -> None:
    """Both want the units until then: what has come stays, and nothing is fetched twice."""
    made = with_one(prefetch())
    made.serve(auto())
    heard = made.cluster.fetchers["node-1"]
    made.cluster.fetchers["node-1"] = heard.model_copy(update={"fetches": ()})

    before = state_of(sweep(made.snapshot()))
    made.cluster.hear_fetch("node-1", fetch(FetchState.FETCHING, fetch_id="fetch-model-1"))
    after = state_of(sweep(made.snapshot()))

    assert (before, after) == (None, PrefetchState.OVERTAKEN)


def test_it_gives_the_room_back_that_workers_need() -> None:
    """Of two and a half times its bytes the other model's workers hold twice as many."""
    made = ExpectedModels().add_node(cache_capacity_bytes=int(2.5 * FILE_BYTES)).add_model(auto())
    with_one(prefetch(), made)
    assert state_of(sweep(made.snapshot())) is None
    sizes = tuple(2 * unit.size_bytes + 4096 for unit in WEIGHTS.units)
    others = summary(unit_sizes=sizes)
    units = tuple(
        unit.model_copy(update={"digest": f"{i + 9:064x}"}) for i, unit in enumerate(others.units)
    )
    made.serve(a_model("other"), others.model_copy(update={"units": units}))

    assert state_of(sweep(made.snapshot())) is PrefetchState.DISPLACED


def test_one_that_is_complete_holds_no_room_that_workers_need() -> None:
    """Its units are not kept any more: its fetcher evicts them for whoever needs the room."""
    made = ExpectedModels().add_node(cache_capacity_bytes=FILE_BYTES // 2).add_model(auto())

    assert state_of(sweep(with_one(COMPLETE, made).snapshot())) is None


def test_the_end_of_one_lets_the_next_model_have_its_turn() -> None:
    made = with_one(prefetch(), ExpectedModels().add_node().add_model(auto("model-2")))
    made.cluster.add_model(auto(), WEIGHTS)
    made.cluster.hear_fetch("node-1", fetch(FetchState.COMPLETE, fetch_id="prefetched"))

    ended = sweep(made.snapshot())

    starts = [*ended.starts, *sweep(later(ended.after, 5.0)).starts]
    assert [start.model_id for start in starts] == ["model-2"]
    assert ended.after.prefetches["prefetch-1"] == COMPLETE
