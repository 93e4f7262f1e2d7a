"""What a consolidation takes, saves and costs: values that can be added up by hand."""

from dataclasses import replace
from math import inf

import pytest

from libs.common.states import FetchState
from services.scheduler.policy.consolidation.benefit import Benefit, TokenTimes, reason_for
from services.scheduler.policy.consolidation.consolidation import MAX_TRIES, ConsolidationTries
from services.scheduler.policy.consolidation.duration import duration_s, left_s
from services.scheduler.policy.consolidation.patience import timeout_s
from services.scheduler.policy.consolidation.remaining import kept_s, remaining_s
from services.scheduler.policy.consolidation.target import has_room, target_of
from services.scheduler.policy.network.observed_flows import network_of
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.policy.consolidation.pipelines import (
    SUMMARY,
    UNITS,
    pipeline,
    rest,
    snapshot_of,
    stage,
    with_open,
)
from tests.unit.scheduler.values import NOW_S, fetch, model, open_request

FAST = TokenTimes(pipeline_s=0.05, whole_s=0.04, target_s=0.1)
SLOW = TokenTimes(pipeline_s=0.15, whole_s=0.09, target_s=0.1)
HOPELESS = TokenTimes(pipeline_s=0.15, whole_s=0.11, target_s=0.1)
TAIL_S = 0.1  # the prior


@pytest.mark.parametrize(
    ("remaining_s", "saved", "cost", "pays"),
    [
        # 1,000 x (20 - 10) against 0.1 x 800 x 20 + 0.1 x 3,000 x 10
        (20.0, 10_000.0, 4_600.0, True),
        # 1,000 x (14 - 10) against 0.1 x 800 x 14 + 3,000
        (14.0, 4_000.0, 4_120.0, False),
        (10.0, 0.0, 3_800.0, False),
        (5.0, 0.0, 3_400.0, False),
    ],
)
def test_it_pays_once_what_is_freed_outweighs_host_memory_and_slower_tokens(
    remaining_s: float, saved: float, cost: float, pays: bool
) -> None:
    benefit = Benefit(1_000, 3_000, 800, duration_s=10.0, remaining_s=remaining_s)
    assert benefit.saved_byte_s == pytest.approx(saved)
    assert benefit.cost_byte_s == pytest.approx(cost)
    assert benefit.pays is pays


@pytest.mark.parametrize(
    ("remaining_s", "times", "begins"),
    [
        (20.0, FAST, "it frees 0 MB after 10.0 s, and is expected to stay for 20 s"),
        (14.0, FAST, None),
        (14.0, SLOW, "a token takes 150 ms, and one worker would take 90 ms, of 100 ms"),
        (14.0, HOPELESS, None),
        (10.0, SLOW, None),  # it would be gone before
    ],
)
def test_it_is_worth_it_if_it_pays_or_mends_the_time_per_token(
    remaining_s: float, times: TokenTimes, begins: str | None
) -> None:
    benefit = Benefit(1_000, 3_000, 800, duration_s=10.0, remaining_s=remaining_s)
    assert reason_for(benefit, times) == begins


@pytest.mark.parametrize(
    ("count", "backoff_s"), [(0, 0.0), (1, 5.0), (2, 10.0), (3, 20.0), (4, 40.0), (5, 60.0)]
)
def test_tries_that_came_to_nothing_double_the_wait_up_to_a_minute(
    count: int, backoff_s: float
) -> None:
    tries = ConsolidationTries(count, last_at_s=100.0)
    assert tries.backoff_s == backoff_s
    assert tries.may_try(100.0 + backoff_s)
    assert not count or not tries.may_try(100.0 + backoff_s - 0.01)


def test_after_eight_tries_it_stays_a_pipeline() -> None:
    tries = ConsolidationTries()
    for _ in range(MAX_TRIES):
        assert tries.may_try(1e9)
        tries = tries.one_more(0.0)
    assert not tries.may_try(1e9)


@pytest.mark.parametrize(("expected_s", "waited_s"), [(0.7, 60.0), (6.0, 60.0), (7.0, 70.0)])
def test_weights_may_take_ten_times_as_long_as_expected_and_a_minute_at_least(
    expected_s: float, waited_s: float
) -> None:
    assert timeout_s(expected_s) == pytest.approx(waited_s)


def test_the_entry_lacks_the_other_layers_and_frees_what_the_others_hold() -> None:
    target = target_of(snapshot_of(pipeline()), pipeline())
    assert target is not None
    assert target.lacking_digests == UNITS[2:4]
    assert (target.load_bytes, target.freed_bytes, target.kv_bytes) == (600, 800, 40)
    assert (target.unit_digests, target.num_layers) == (UNITS, 3)


@pytest.mark.parametrize(("device_bytes", "fits"), [(1_100, True), (1_099, False)])
def test_there_is_room_for_process_weights_and_its_kv_slots_or_none(
    device_bytes: int, fits: bool
) -> None:
    """50 + 1,010 + 40 tokens of a byte each."""
    own = replace(stage(0, is_full=True), device_bytes=device_bytes)
    assert has_room(own, SUMMARY) is fits


def of_entry(there: Snapshot) -> float:
    own = pipeline()
    target = target_of(there, own)
    assert own.entry is not None and target is not None
    return duration_s(there, own.entry, target, network_of(there, {}))


def test_it_takes_the_fetch_with_what_others_leave_and_the_tail() -> None:
    """600 bytes at 1,000 a second; behind 400 that somebody waits for; nothing that is there."""
    start = fetch(FetchState.FETCHING, fetch_id="start-0", bytes_done=0, bytes_total=400)
    assert of_entry(snapshot_of(pipeline())) == pytest.approx(0.6 + TAIL_S)
    busy = snapshot_of(pipeline(), fetches={"node-0": (start,)})
    assert of_entry(busy) == pytest.approx(1.0 + TAIL_S)
    both = (
        pipeline(),
        pipeline(id="endpoint-2", workers=(stage(1, is_full=True, node_id="node-0"),)),
    )
    shared = snapshot_of(pipeline(), endpoints=both)
    assert of_entry(shared) == pytest.approx(0.3 + TAIL_S), "another worker there has a layer"


def test_nobody_knows_how_long_it_takes_where_the_fetcher_was_not_heard() -> None:
    there = snapshot_of(pipeline())
    deaf = replace(there, observed=replace(there.observed, fetchers={}))
    assert of_entry(deaf) == inf


@pytest.mark.parametrize(
    ("done", "left"),
    [(None, TAIL_S), (0, 0.6 + TAIL_S), (450, 0.15 + TAIL_S), (600, TAIL_S)],
)
def test_what_is_left_is_what_its_fetch_lacks_and_the_tail(done: int | None, left: float) -> None:
    own = with_open(pipeline())
    told = () if done is None else (rest(FetchState.FETCHING, bytes_done=done, bytes_total=600),)
    there = snapshot_of(own, fetches={"node-0": told})
    assert own.entry is not None and own.consolidation is not None
    assert left_s(there, own.entry, own.consolidation) == pytest.approx(left)


@pytest.mark.parametrize(
    ("idle_s", "stays_s"),
    [(0.0, 60.0), (45.0, 15.0), (60.0, 0.0), (90.0, 0.0)],
)
def test_who_is_idle_stays_for_the_rest_of_the_keep_alive(idle_s: float, stays_s: float) -> None:
    own = pipeline(idle_since_s=NOW_S - idle_s)
    there = snapshot_of(own)
    assert remaining_s(there, own, model()) == pytest.approx(stays_s)


def test_who_works_stays_as_long_as_others_did_and_then_for_the_keep_alive() -> None:
    """They work 100 s; this one has for 30."""
    own = pipeline(ready_since_s=NOW_S - 30.0)
    there = snapshot_of(own, activities={"model-1": ModelActivity(busy_s=100.0)})
    assert remaining_s(there, own, model()) == pytest.approx(70.0 + 60.0)


def test_who_works_stays_for_a_usual_answer_at_least() -> None:
    """128 tokens of 3 ms for each GB."""
    own = pipeline(ready_since_s=NOW_S - 300.0)
    there = snapshot_of(own, activities={"model-1": ModelActivity(busy_s=100.0)})
    answer_s = 128 * 0.003 * 1_010 / 1e9
    assert remaining_s(there, own, model()) == pytest.approx(answer_s + 60.0)


def test_whom_somebody_waits_for_is_not_idle_whatever_its_row_says() -> None:
    own = pipeline(idle_since_s=NOW_S - 45.0)
    there = snapshot_of(own, requests=(open_request(),))
    assert remaining_s(there, own, model()) > 60.0


def test_what_is_kept_for_ever_counts_for_an_hour() -> None:
    own, kept = pipeline(idle_since_s=NOW_S - 45.0), model(min_endpoints=1)
    there = snapshot_of(own, models=(kept,))
    assert kept_s(there, own, kept) == inf
    assert remaining_s(there, own, kept) == 3_600.0
