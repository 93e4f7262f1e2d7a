"""How many tokens there were at a moment."""

from hypothesis import given
from hypothesis import strategies as st

from services.worker.agent.requests.token_times import INTERVAL_S, TokenTimes


def test_before_anything_came_there_was_nothing_and_afterwards_there_is_all() -> None:
    times = TokenTimes()
    times.note(0, 5.0)
    assert times.num_at(4.9, 3) == 0
    assert times.num_at(5.0, 3) == 3
    assert TokenTimes().num_at(1.0, 0) == 0


@given(
    pauses_s=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=50),
    moment_s=st.floats(-1.0, 60.0),
)
def test_the_count_is_right_to_an_interval(pauses_s: list[float], moment_s: float) -> None:
    times, arrivals_s, now_s = TokenTimes(), list[float](), 0.0
    for number, pause_s in enumerate(pauses_s):
        now_s += pause_s
        times.note(number, now_s)
        arrivals_s.append(now_s)

    counted = times.num_at(moment_s, len(arrivals_s))

    assert counted >= sum(at_s <= moment_s for at_s in arrivals_s)
    assert counted <= sum(at_s <= moment_s + INTERVAL_S for at_s in arrivals_s)
