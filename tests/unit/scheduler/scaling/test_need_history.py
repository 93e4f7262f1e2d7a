from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.scaling.need_history import Need, NeedHistory

WINDOW_S = 60.0


def test_a_peak_counts_for_as_long_as_the_window() -> None:
    history = NeedHistory(0.0).add(0.0, 3, WINDOW_S).add(10.0, 1, WINDOW_S)
    history = history.add(60.0, 1, WINDOW_S)

    assert history.peak(60.0, WINDOW_S) == 3
    assert history.add(61.0, 1, WINDOW_S).peak(61.0, WINDOW_S) == 1


def test_nothing_is_said_before_the_window_is_over() -> None:
    history = NeedHistory(100.0).add(100.0, 1, WINDOW_S)

    assert history.peak(159.0, WINDOW_S) is None, "a new leader does not know what was needed"
    assert history.add(160.0, 1, WINDOW_S).peak(160.0, WINDOW_S) == 1


def test_a_greater_need_outweighs_those_before_it() -> None:
    history = NeedHistory(0.0)
    for at_s, needed in ((0.0, 5), (1.0, 2), (2.0, 3), (3.0, 3)):
        history = history.add(at_s, needed, WINDOW_S)

    assert history.needs == (Need(0.0, 5), Need(3.0, 3))


@given(st.lists(st.tuples(st.floats(0.1, 40.0), st.integers(0, 6)), max_size=40))
def test_it_is_the_greatest_of_all_within_the_window(steps: list[tuple[float, int]]) -> None:
    history, seen, now_s = NeedHistory(0.0), list[Need](), 0.0
    for seconds, needed in steps:
        now_s += seconds
        history = history.add(now_s, needed, WINDOW_S)
        seen.append(Need(now_s, needed))
        within = [need.num_endpoints for need in seen if need.at_s >= now_s - WINDOW_S]

        assert history.peak(now_s, WINDOW_S) == (max(within) if now_s >= WINDOW_S else None)
        assert len(history.needs) <= 7, "as many as there are needs"
