"""How long an agent says that it had a request."""

from libs.common.bus.messages import TokensGenerated
from libs.common.states import FinishReason
from services.gateway.slo.engine_clock import EngineClock, EngineTimes


def tokens(
    start_index: int,
    *,
    attempt: int = 1,
    first_ms: int | None = None,
    finish_ms: int | None = None,
) -> TokensGenerated:
    return TokensGenerated(
        request_id="req-1",
        attempt=attempt,
        start_index=start_index,
        ids=(1,),
        finish=None if finish_ms is None else FinishReason.STOP,
        first_token_ms=first_ms,
        finish_ms=finish_ms,
    )


def heard(*messages: TokensGenerated) -> EngineTimes:
    clock = EngineClock()
    for message in messages:
        clock.hear(message)
    return clock.times


def test_the_first_token_and_the_end_are_timed_by_the_agent() -> None:
    times = heard(tokens(0, first_ms=250), tokens(1), tokens(2, finish_ms=1250))

    assert times == EngineTimes(0.25, 1.0)


def test_both_may_come_in_one_message_that_was_sent_again() -> None:
    assert heard(tokens(0, first_ms=250, finish_ms=1250)) == EngineTimes(0.25, 1.0)


def test_an_agent_that_tells_no_times_leaves_them_unknown() -> None:
    assert heard(tokens(0), tokens(1, finish_ms=9)) == EngineTimes()


def test_of_an_answer_by_several_attempts_only_the_first_token_is_known() -> None:
    """The second attempt's first token is none of the request's."""
    times = heard(tokens(0, first_ms=250), tokens(1, attempt=2, first_ms=70, finish_ms=900))

    assert times == EngineTimes(0.25)
