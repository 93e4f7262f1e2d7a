import pytest

from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.gap_history import history_of


def test_a_gap_lasts_from_the_end_of_the_last_work_to_the_next_request() -> None:
    activity = ModelActivity().asked(100.0).rested(110.0).asked(170.0)

    assert activity.gaps == history_of([60.0])
    assert activity.idle_since_s is None


def test_requests_that_overlap_have_no_gap_between_them() -> None:
    activity = ModelActivity().rested(110.0).asked(170.0)

    assert activity.asked(171.0) == activity


def test_work_between_two_heartbeats_is_one_request() -> None:
    activity = ModelActivity().rested(110.0).rested(130.5)

    assert activity.gaps == history_of([20.5])
    assert activity.idle_since_s == 130.5


def test_what_is_told_late_is_no_gap() -> None:
    activity = ModelActivity().rested(110.0)

    assert activity.rested(109.0) == activity
    assert activity.asked(109.0).gaps == history_of([0.0])


def test_a_first_request_ends_no_gap() -> None:
    assert ModelActivity().asked(100.0) == ModelActivity()


def test_what_is_ready_and_has_no_request_rests_from_then_on() -> None:
    asked = ModelActivity().rested(100.0).asked(160.0)

    assert asked.served(165.0).idle_since_s == 165.0
    assert asked.rested(164.0).served(165.0).idle_since_s == 164.0, "it was seen to rest before"


def periodic() -> ModelActivity:
    """It is asked every ten minutes, starts in 5 s, and rests since second 1000."""
    activity = ModelActivity(history_of([600.0] * 40))
    return activity.started(5.0, 5.0).rested(1000.0)


def test_one_is_started_ahead_so_that_it_is_ready_when_a_request_is_expected() -> None:
    activity = periodic()

    # Requests come 512 s to 609 s after the last one, and it takes 5 s to start.
    assert activity.ahead_at_s == 1000.0 + 512.0 - 5.0
    assert activity.ahead_until_s == pytest.approx(1000.0 + 608.9, abs=0.1)


def test_one_is_started_ahead_once_in_a_gap() -> None:
    activity = periodic().started_ahead()

    assert activity.ahead_at_s is None
    assert activity.ahead_until_s is not None, "it stays as long as a request is expected"
    assert activity.asked(1600.0).rested(1610.0).ahead_at_s == 1610.0 + 507.0


def test_of_a_model_that_works_or_is_not_known_none_is_started_ahead() -> None:
    assert ModelActivity().ahead_at_s is None
    assert periodic().asked(1600.0).ahead_at_s is None


def test_a_start_is_worth_what_it_would_be_late_or_all_of_it_where_nothing_was_predicted() -> None:
    unknown, in_time = ModelActivity().started(5.0, None), ModelActivity().started(5.0, 0.0)
    assert unknown.plan == ModelActivity().started(5.0, 5.0).plan
    assert in_time.plan.keep_s < 6.0 < 60.0 < ModelActivity().started(5.0, 1.0).plan.keep_s


def test_for_how_long_it_works_is_a_mean_in_which_the_last_time_weighs_most() -> None:
    first = ModelActivity().working(100.0).working(105.0).rested(120.0)
    assert (first.busy_s, first.busy_since_s) == (20.0, None), "since it began, not since a second"
    # 0.3 x 10 + 0.7 x 20
    assert first.asked(200.0).working(201.0).rested(211.0).busy_s == pytest.approx(17.0)
    assert first.asked(200.0).rested(211.0).busy_s == 20.0, "nobody saw when it began"


def test_what_worked_until_it_was_lost_says_nothing_of_how_long_it_works() -> None:
    lost = ModelActivity(busy_s=20.0).working(100.0)
    again = lost.started(5.0, 0.0).working(5000.0).rested(5010.0)
    assert again.busy_s == pytest.approx(0.3 * 10.0 + 0.7 * 20.0)
