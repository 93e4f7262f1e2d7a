"""A start that would be too slow beside others waits for them, while that costs nothing."""

from dataclasses import replace

import pytest

from libs.common.reasons import Reason
from libs.common.startmode import StartMode
from services.scheduler.policy import decisions as d
from tests.unit.scheduler.decide.played import PlayedCluster
from tests.unit.scheduler.decide.test_unasked import with_models
from tests.unit.scheduler.snapshots import a_model

OTHER = a_model("other", keep_alive_s=0.0)
LOOSE_S, STEP_S = 1000.0, 0.5


def beside_a_busy_one(
    tpot_s: float, ttft_s: float = LOOSE_S, busy_s: float = 99.0
) -> PlayedCluster:
    """The other one computes on the only device, with room for both, and works for so long."""
    asked = a_model("model-1", slo_ttft_s=ttft_s, slo_tpot_s=tpot_s)
    played = with_models(OTHER, asked, service_s=busy_s)
    played.ask("other")
    played.play(6.0)
    played.ask("model-1")
    return played


def start_of(decided: list[d.Decision]) -> d.StartEndpoint:
    (found,) = (x for x in decided if isinstance(x, d.StartEndpoint) and x.model_id == "model-1")
    return found


def time_per_token_s(*, is_shared: bool) -> float:
    played = beside_a_busy_one(LOOSE_S) if is_shared else with_models(a_model("model-1"))
    if not is_shared:
        played.ask("model-1")
    prediction = start_of(played.play(1.0)).prediction
    assert prediction is not None
    return prediction.tpot_s


def between() -> float:
    """A target that is met alone, and not beside the other one."""
    alone_s, shared_s = time_per_token_s(is_shared=False), time_per_token_s(is_shared=True)
    assert alone_s < shared_s
    return (alone_s + shared_s) / 2


def is_started(played: PlayedCluster) -> bool:
    return bool(played.live("model-1"))


def test_it_starts_once_the_other_one_has_ended() -> None:
    played = beside_a_busy_one(between(), busy_s=6.0)

    decided = played.play(1.0)
    assert not is_started(played)
    assert Reason.CLUSTER_FULL in {x.reason for x in decided if isinstance(x, d.Wait)}

    prediction = start_of(played.play(9.0)).prediction
    assert prediction is not None
    assert prediction.tpot_s == pytest.approx(time_per_token_s(is_shared=False))


def test_it_starts_all_the_same_before_its_first_token_would_be_late() -> None:
    target_s = 12.0
    played = beside_a_busy_one(between(), ttft_s=target_s)

    played.play(1.0)
    assert not is_started(played)
    prediction = start_of(played.play(20.0)).prediction
    assert prediction is not None and prediction.ttft_s <= target_s


def test_nobody_waits_for_longer_than_the_limit() -> None:
    played = beside_a_busy_one(between())
    played.cluster.limits = replace(played.cluster.limits, longest_wait_for_others_s=3.0)

    played.play(2.5)
    assert not is_started(played)
    played.play(1.0)
    assert is_started(played)


def test_a_target_that_nobody_could_meet_is_not_waited_for() -> None:
    played = beside_a_busy_one(time_per_token_s(is_shared=False) / 2)

    played.play(STEP_S)
    assert is_started(played)


def test_modes_that_know_no_targets_do_not_wait() -> None:
    played = beside_a_busy_one(between())
    tpot_of_shared_s = time_per_token_s(is_shared=True)
    played.snapshot_fields["mode"] = StartMode.SEQUENTIAL

    prediction = start_of(played.play(STEP_S)).prediction
    assert prediction is not None and prediction.tpot_s == pytest.approx(tpot_of_shared_s)
