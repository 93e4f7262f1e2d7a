from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.observation.liveness import Hearing

MAX_GAP_S = 2.0


def test_a_speaker_is_silent_only_while_others_are_heard() -> None:
    hearing = Hearing(0.0, MAX_GAP_S)
    hearing.hear("a", 1.0)
    for second in range(2, 12):
        hearing.hear("b", float(second))

    assert hearing.silence_s("a") == 10.0
    assert hearing.silence_s("b") == 0.0


def test_when_nobody_is_heard_for_long_nobody_is_lost() -> None:
    hearing = Hearing(0.0, MAX_GAP_S)
    hearing.hear("a", 1.0)
    hearing.hear("b", 1.0)

    hearing.hear("b", 60.0)  # the bus is back; `a` reconnects a moment later

    assert hearing.silence_s("a") == MAX_GAP_S


def test_one_never_heard_is_silent_since_the_start() -> None:
    hearing = Hearing(100.0, MAX_GAP_S)
    hearing.hear("b", 101.0)
    hearing.hear("b", 102.5)

    assert hearing.silence_s("never") == hearing.heard_for_s == 2.5


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 100)), max_size=50))
def test_silence_is_never_negative_and_never_longer_than_real_time(
    events: list[tuple[str, float]],
) -> None:
    hearing = Hearing(0.0, MAX_GAP_S)
    for speaker, at_s in sorted(events, key=lambda event: event[1]):
        hearing.hear(speaker, at_s)

    for speaker in "abc":
        assert 0 <= hearing.silence_s(speaker) <= 100.0001
