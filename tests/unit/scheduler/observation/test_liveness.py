from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.observation.liveness import LivenessLog

MAX_GAP_S = 2.0


def test_a_speaker_is_silent_only_while_others_are_heard() -> None:
    log = LivenessLog(0.0, MAX_GAP_S)
    log.hear("a", 1.0)
    for second in range(2, 12):
        log.hear("b", float(second))

    assert log.silence_s("a") == 10.0
    assert log.silence_s("b") == 0.0


def test_when_nobody_is_heard_for_long_nobody_is_lost() -> None:
    log = LivenessLog(0.0, MAX_GAP_S)
    log.hear("a", 1.0)
    log.hear("b", 1.0)

    log.hear("b", 60.0)  # the bus is back; `a` reconnects a moment later

    assert log.silence_s("a") == MAX_GAP_S


def test_one_never_heard_is_silent_since_the_start() -> None:
    log = LivenessLog(100.0, MAX_GAP_S)
    log.hear("b", 101.0)
    log.hear("b", 102.5)

    assert log.silence_s("never") == log.heard_for_s == 2.5


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 100)), max_size=50))
def test_silence_is_never_negative_and_never_longer_than_real_time(
    events: list[tuple[str, float]],
) -> None:
    log = LivenessLog(0.0, MAX_GAP_S)
    for speaker, at_s in sorted(events, key=lambda event: event[1]):
        log.hear(speaker, at_s)

    for speaker in "abc":
        assert 0 <= log.silence_s(speaker) <= 100.0001
