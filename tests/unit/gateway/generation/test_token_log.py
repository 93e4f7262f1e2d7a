"""The log takes exactly what continues it, whatever order, loss and repetition the bus adds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.bus.messages import Logprob, TokensGenerated
from libs.common.states import FinishReason
from services.gateway.generation.token_log import OfferResult, TokenLog


def tokens(start: int, *ids: int, attempt: int = 1, finish: str | None = None) -> TokensGenerated:
    return TokensGenerated(
        request_id="req-1",
        attempt=attempt,
        start_index=start,
        ids=ids,
        finish=None if finish is None else FinishReason(finish),
    )


def log(max_unread_tokens: int = 100) -> TokenLog:
    return TokenLog(max_unread_tokens, max_unread_bytes=2**20)


@pytest.mark.parametrize(
    ("message", "offer", "ids", "why"),
    [
        (tokens(2, 3), OfferResult.TAKEN, [1, 2, 3], "it continues"),
        (tokens(1, 2, 3), OfferResult.TAKEN, [1, 2, 3], "it overlaps and goes on"),
        (tokens(0, 1, 2), OfferResult.KNOWN, [1, 2], "a repetition"),
        (tokens(0, 1), OfferResult.KNOWN, [1, 2], "an older repetition"),
        (tokens(3, 4), OfferResult.GAP, [1, 2], "one is missing"),
        (tokens(2, 9, attempt=2), OfferResult.STALE, [1, 2], "an attempt not begun"),
        (tokens(2, finish="stop"), OfferResult.TAKEN, [1, 2], "a finish without tokens"),
        (tokens(1, 2, finish="stop"), OfferResult.TAKEN, [1, 2], "a repetition that now finishes"),
    ],
)
def test_the_log_takes_what_continues_it(
    message: TokensGenerated, offer: OfferResult, ids: list[int], why: str
) -> None:
    subject = log()
    subject.offer(tokens(0, 1, 2))

    assert subject.offer(message) is offer, why
    assert subject.ids == ids, why


def test_a_gap_is_remembered_until_it_is_filled() -> None:
    subject = log()

    subject.offer(tokens(1, 2))
    assert subject.has_gap
    subject.offer(tokens(0, 1, 2))

    assert not subject.has_gap
    assert subject.ids == [1, 2]


def test_after_the_finish_nothing_is_taken() -> None:
    subject = log()
    subject.offer(tokens(0, 1, finish="stop"))

    assert subject.offer(tokens(1, 2)) is OfferResult.KNOWN
    assert subject.ids == [1]


def test_a_new_attempt_keeps_the_tokens_and_ignores_the_old_attempts_messages() -> None:
    subject = log()
    subject.offer(tokens(0, 1, 2))
    subject.begin_attempt(2)

    assert subject.offer(tokens(2, 9)) is OfferResult.STALE
    assert subject.offer(tokens(2, 3, attempt=2)) is OfferResult.TAKEN
    assert subject.ids == [1, 2, 3]


@pytest.mark.parametrize(
    ("ids", "finish", "why"),
    [
        ((1, 2, 3), FinishReason.LENGTH, "as many as were wanted"),
        ((1, 9), FinishReason.STOP, "the last one ends it"),
        ((9, 1), None, "more was to come"),
        ((), None, "nothing came"),
    ],
)
def test_an_answer_that_is_complete_needs_no_finish(
    ids: tuple[int, ...], finish: FinishReason | None, why: str
) -> None:
    subject = log()
    subject.offer(tokens(0, *ids))

    assert subject.conclude(3, (9,)) is (finish is not None), why
    assert subject.finish is finish, why


def test_a_full_log_drops_and_asks_again_once_it_was_read() -> None:
    subject = log(max_unread_tokens=2)
    subject.offer(tokens(0, 1, 2))

    assert subject.is_full
    assert subject.offer(tokens(2, 3)) is OfferResult.FULL
    assert subject.has_gap
    subject.read()
    assert not subject.is_full
    assert subject.offer(tokens(2, 3)) is OfferResult.TAKEN


def test_many_alternatives_fill_the_log_by_their_bytes() -> None:
    subject = TokenLog(max_unread_tokens=1000, max_unread_bytes=10_000)
    top = tuple((n, -1.0) for n in range(20))
    entry = Logprob(logprob=-1.0, top=top)
    message = TokensGenerated(
        request_id="req-1", attempt=1, start_index=0, ids=(1,) * 8, logprobs=(entry,) * 8
    )

    subject.offer(message)

    assert subject.is_full


def test_logprobs_stay_with_their_tokens_when_messages_overlap() -> None:
    subject = log()
    entries = tuple(Logprob(logprob=-float(n)) for n in range(1, 4))
    for start, ids, logprobs in ((0, (1, 2), entries[:2]), (1, (2, 3), entries[1:])):
        subject.offer(
            TokensGenerated(
                request_id="req-1", attempt=1, start_index=start, ids=ids, logprobs=logprobs
            )
        )

    batch = subject.read()

    assert batch is not None
    assert batch.ids == (1, 2, 3)
    assert batch.logprobs == entries


def test_logprobs_of_the_wrong_length_are_left_out() -> None:
    subject = log()
    subject.offer(
        TokensGenerated(
            request_id="req-1", attempt=1, start_index=0, ids=(1, 2), logprobs=(Logprob(logprob=0),)
        )
    )

    batch = subject.read()

    assert batch is not None and batch.logprobs is None


@st.composite
def disturbed_streams(draw: st.DrawFn) -> tuple[list[int], list[TokensGenerated]]:
    """A whole answer, and messages about it: any slices, in any order, any number of times."""
    whole = draw(st.lists(st.integers(0, 1000), min_size=1, max_size=40))
    messages = []
    for _ in range(draw(st.integers(0, 30))):
        start = draw(st.integers(0, len(whole)))
        end = draw(st.integers(start, len(whole)))
        finish = "stop" if end == len(whole) else None
        messages.append(tokens(start, *whole[start:end], finish=finish))
    return whole, messages


@given(disturbed_streams(), st.integers(1, 8))
def test_whatever_arrives_the_log_is_a_beginning_of_the_answer_and_a_resend_completes_it(
    stream: tuple[list[int], list[TokensGenerated]], room: int
) -> None:
    whole, messages = stream
    subject = log(max_unread_tokens=room)
    read: list[int] = []
    for message in messages:
        subject.offer(message)
        assert subject.ids == whole[: len(subject.ids)]
        if subject.is_full:
            batch = subject.read()
            read += batch.ids if batch else ()

    batch = subject.read()
    read += batch.ids if batch else ()
    subject.offer(tokens(subject.next_index, *whole[subject.next_index :], finish="stop"))
    batch = subject.read()
    read += batch.ids if batch else ()

    assert read == whole
    assert subject.finish is FinishReason.STOP
