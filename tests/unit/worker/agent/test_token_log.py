import gc
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.bus.messages import Logprob, TokensGenerated, UnacknowledgedEnd
from libs.common.states import FinishReason
from services.worker.agent.requests.token_log import (
    KEEP_FINISHED_S,
    MAX_FINISHED,
    RESEND_TOKENS,
    UNACKNOWLEDGED_S,
    RequestLog,
    TokenLog,
)


def tokens(
    start_index: int, *ids: int, attempt: int = 1, finish: FinishReason | None = None
) -> TokensGenerated:
    return TokensGenerated(
        request_id="request-a", attempt=attempt, start_index=start_index, ids=ids, finish=finish
    )


def opened(start_index: int = 0) -> tuple[TokenLog, RequestLog]:
    log = TokenLog()
    log.open("request-a", 1, start_index, deadline_s=100.0)
    request = log.find("request-a", 1)
    assert request is not None
    return log, request


def test_tokens_are_kept_in_order_and_can_be_sent_again_from_any_index() -> None:
    log, request = opened()
    assert log.append(tokens(0, 10), 1.0)
    assert log.append(tokens(1, 11, 12), 1.0)

    assert list(log.since(request, 1, 2.0)) == [tokens(1, 11, 12)]
    assert list(log.since(request, 3, 2.0)) == []


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param(tokens(1, 11), id="leaves a gap"),
        pytest.param(tokens(0, 11, attempt=2), id="another attempt"),
        pytest.param(
            TokensGenerated(request_id="request-b", attempt=1, start_index=0, ids=(1,)),
            id="another request",
        ),
        pytest.param(
            TokensGenerated(
                request_id="request-a", attempt=1, start_index=0, ids=(1, 2), logprobs=()
            ),
            id="fewer log-probabilities than tokens",
        ),
        pytest.param(tokens(0, 1, 2**32), id="an id beyond every vocabulary"),
    ],
)
def test_what_does_not_continue_a_request_is_not_taken(strange: TokensGenerated) -> None:
    log, request = opened()
    assert not log.append(strange, 1.0)
    assert not request.ids


def test_nothing_is_taken_after_the_end() -> None:
    log, request = opened()
    assert log.append(tokens(0, 1, finish=FinishReason.STOP), 1.0)
    assert not log.append(tokens(1, 2), 1.0)
    assert list(log.since(request, 0, 2.0)) == [tokens(0, 1, finish=FinishReason.STOP)]


def test_the_end_alone_is_sent_again_to_whoever_has_all_tokens() -> None:
    log, request = opened()
    log.append(tokens(0, 1, 2), 1.0)
    log.finish(request, FinishReason.CANCELLED, 1.0)
    assert list(log.since(request, 2, 2.0)) == [tokens(2, finish=FinishReason.CANCELLED)]


def test_a_later_attempt_counts_on_from_the_tokens_of_earlier_ones() -> None:
    log, request = opened(start_index=5)
    assert log.append(tokens(5, 1), 1.0)
    assert list(log.since(request, 0, 2.0)) == [tokens(5, 1)]


def test_a_newer_attempt_replaces_an_older_one_for_good() -> None:
    log, _ = opened()
    log.open("request-a", 2, 1, deadline_s=100.0)
    assert log.find("request-a", 1) is None
    assert log.has_ended("request-a", 1)
    assert not log.has_ended("request-a", 2)
    assert len(log) == 1


def test_a_forgotten_request_is_remembered_as_ended() -> None:
    log, _ = opened()
    assert log.forget("request-a", 1)
    assert not log.forget("request-a", 1)
    assert log.has_ended("request-a", 1)


def test_unacknowledged_ends_are_kept_for_a_minute() -> None:
    log, request = opened()
    log.finish(request, FinishReason.STOP, 10.0)
    log.expire(10.0 + KEEP_FINISHED_S - 0.1)
    assert len(log) == 1
    log.expire(10.0 + KEEP_FINISHED_S)
    assert len(log) == 0


def test_an_unacknowledged_end_is_kept_while_its_reader_still_asks() -> None:
    log, request = opened()
    log.append(tokens(0, 1, finish=FinishReason.STOP), 10.0)
    asked_at_s = 10.0
    for _ in range(5):
        asked_at_s += KEEP_FINISHED_S - 1
        assert list(log.since(request, 0, asked_at_s)) == [tokens(0, 1, finish=FinishReason.STOP)]
        log.expire(asked_at_s)
    log.expire(asked_at_s + KEEP_FINISHED_S - 0.1)
    assert len(log) == 1
    log.expire(asked_at_s + KEEP_FINISHED_S)
    assert len(log) == 0


def test_a_running_request_never_expires() -> None:
    log, _ = opened()
    log.expire(1e9)
    assert len(log) == 1


def test_too_many_unacknowledged_ends_push_out_the_oldest() -> None:
    log = TokenLog()
    for number in range(MAX_FINISHED + 3):
        log.open(f"request-{number}", 1, 0, deadline_s=100.0)
        request = log.find(f"request-{number}", 1)
        assert request is not None
        log.finish(request, FinishReason.STOP, float(number) / 1000)
    log.expire(1.0)
    assert len(log) == MAX_FINISHED
    assert log.find("request-2", 1) is None
    assert log.find("request-3", 1) is not None


def test_an_end_that_is_asked_for_is_not_pushed_out_by_newer_ones() -> None:
    log = TokenLog()
    for number in range(MAX_FINISHED + 1):
        log.open(f"request-{number}", 1, 0, deadline_s=100.0)
        request = log.find(f"request-{number}", 1)
        assert request is not None
        log.finish(request, FinishReason.STOP, float(number) / 1000)
    oldest = log.find("request-0", 1)
    assert oldest is not None
    list(log.since(oldest, 0, 1.0))
    log.expire(1.0)
    assert log.find("request-0", 1) is oldest
    assert log.find("request-1", 1) is None


def test_a_token_with_20_alternatives_takes_less_than_300_bytes() -> None:
    log, request = opened()
    num_tokens = 1024
    tracemalloc.start()
    try:
        for index in range(num_tokens):
            top = tuple((100_000 + index + i, -0.001 * (index + i)) for i in range(20))
            logprobs = (Logprob(logprob=-0.5 - index, top=top),)
            log.append(tokens(index, index).model_copy(update={"logprobs": logprobs}), 1.0)
        del top, logprobs
        gc.collect()  # empties the interpreter's free lists too
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(request.ids) == num_tokens
    assert kept_bytes / num_tokens < 300


@given(
    steps=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=400), max_size=5),
    start_index=st.integers(0, 50),
    from_index=st.integers(0, 2500),
    with_logprobs=st.booleans(),
    is_finished=st.booleans(),
)
def test_a_resend_is_exactly_what_is_missing_in_bounded_messages(
    steps: list[list[int]],
    start_index: int,
    from_index: int,
    with_logprobs: bool,
    is_finished: bool,
) -> None:
    log, request = opened(start_index)
    everything: list[int] = []
    for ids in steps:
        logprobs = tuple(Logprob(logprob=-float(i)) for i in ids) if with_logprobs else None
        part = tokens(start_index + len(everything), *ids)
        assert log.append(part.model_copy(update={"logprobs": logprobs}), 1.0)
        everything += ids
    if is_finished:
        log.finish(request, FinishReason.LENGTH, 1.0)

    parts = list(log.since(request, from_index, 2.0))

    have = max(0, from_index - start_index)
    assert [i for part in parts for i in part.ids] == everything[have:]
    assert all(len(part.ids) <= RESEND_TOKENS for part in parts)
    next_index = max(from_index, start_index)
    for part in parts:
        assert part.start_index == next_index
        assert part.logprobs is None or len(part.logprobs) == len(part.ids)
        next_index += len(part.ids)
    finishes = [part.finish for part in parts if part.finish is not None]
    is_end_due = is_finished and have <= len(everything)
    assert finishes == ([FinishReason.LENGTH] if is_end_due else [])


@given(
    lost=st.sets(st.integers(0, 19)),
    asks=st.lists(st.integers(0, 19), max_size=4),
)
def test_a_reader_that_asks_at_gaps_ends_with_every_token_whatever_was_lost(
    lost: set[int], asks: list[int]
) -> None:
    """The gateway's rule: take what continues, ask again at a gap, and after silence."""
    log, request = opened()
    received: list[int] = []

    def read(part: TokensGenerated) -> None:
        fresh = part.ids[max(0, len(received) - part.start_index) :]
        if part.start_index <= len(received):
            received.extend(fresh)

    for index in range(20):
        finish = FinishReason.STOP if index == 19 else None
        log.append(tokens(index, index, finish=finish), 1.0)
        if index not in lost:
            read(tokens(index, index, finish=finish))
        if index in asks:
            for part in log.since(request, len(received), 2.0):
                read(part)
    for part in log.since(request, len(received), 2.0):
        read(part)

    assert received == list(range(20))


def test_an_end_that_nobody_acknowledges_is_told_with_the_tokens_of_all_attempts() -> None:
    log, request = opened(start_index=3)
    log.append(tokens(3, 10, 11), 1.0)
    assert list(log.unacknowledged(1.0 + UNACKNOWLEDGED_S)) == []  # it has not ended
    log.finish(request, FinishReason.CANCELLED, 5.0)

    assert list(log.unacknowledged(5.1)) == []
    end = UnacknowledgedEnd(request_id="request-a", attempt=1, num_generated_tokens=5)
    assert list(log.unacknowledged(5.0 + UNACKNOWLEDGED_S)) == [end]
    list(log.since(request, 0, 8.0))  # its gateway asks for it: it lives
    assert list(log.unacknowledged(8.1)) == []
    log.forget("request-a", 1)
    assert list(log.unacknowledged(60.0)) == []


def test_what_came_after_its_gateway_was_last_heard_is_not_counted() -> None:
    log, request = opened()
    for index in range(10):
        log.append(tokens(index, index), float(index))

    request.note_unread_since(6.5)
    log.finish(request, FinishReason.CANCELLED, 10.0)

    (end,) = log.unacknowledged(20.0)
    assert end.num_generated_tokens == 7  # those of the seconds 0 to 6


def test_the_first_token_and_the_end_are_timed_from_when_the_request_was_taken() -> None:
    """Taken at 10 s, a token at 10.5, the last at 12; an empty message is no token."""
    log = TokenLog()
    log.open("request-a", 2, 5, deadline_s=100.0, now_s=10.0)
    request = log.find("request-a", 2)
    assert request is not None
    sent = []
    for message, now_s in (
        (tokens(5, attempt=2), 10.2),
        (tokens(5, 1, attempt=2), 10.5),
        (tokens(6, 2, attempt=2), 11.0),
        (tokens(7, 3, attempt=2, finish=FinishReason.STOP), 12.0),
    ):
        assert log.append(message, now_s)
        sent.append(request.timed(message))

    assert [(m.first_token_ms, m.finish_ms) for m in sent] == [
        (None, None), (500, None), (None, None), (None, 2000),
    ]  # fmt: skip
    again = list(log.since(request, 5, 13.0))
    assert [(m.ids, m.first_token_ms, m.finish_ms) for m in again] == [((1, 2, 3), 500, 2000)]
    later = list(log.since(request, 6, 13.0))
    assert [(m.first_token_ms, m.finish_ms) for m in later] == [(None, 2000)]
