"""Whether a request met its SLO, and why it did not. Times are in seconds, worked out by hand."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.states import RequestOutcome, SloMiss
from services.gateway.slo.engine_clock import EngineTimes
from services.gateway.slo.judgement import Moments, SloTargets, judge
from services.gateway.slo.wait_log import WaitFor, WaitLog

TARGETS = SloTargets(ttft_ms=1000, tpot_ms=100)
ENDPOINT, START = WaitFor.ENDPOINT, WaitFor.START
WEIGHTS, ENGINE = WaitFor.WEIGHTS, WaitFor.ENGINE
Marks = tuple[tuple[WaitFor, float], ...]


def moments(
    first_s: float | None,
    last_s: float | None,
    num_tokens: int,
    marks: Marks = ((ENGINE, 10.0),),
    engine: EngineTimes | None = None,
    ended_s: float | None = None,
) -> Moments:
    """Of a request that arrived at 10 s and ended with its last token."""
    waits = WaitLog()
    for waits_for, since_s in marks:
        waits.note(waits_for, since_s)
    ended_s = ended_s if ended_s is not None else last_s or 10.5
    return Moments(10.0, first_s, last_s, ended_s, num_tokens, waits, engine or EngineTimes())


@pytest.mark.parametrize(
    ("outcome", "first_s", "last_s", "num_tokens", "met", "why"),
    [
        ("stop", 11.0, 11.375, 5, True, "just on time"),
        ("stop", 11.1, 11.2, 5, False, "the first token was late"),
        ("length", 10.5, 11.5, 5, False, "the others were slow"),
        ("stop", 10.5, 10.5, 1, True, "one token has no time per token"),
        ("stop", None, None, 0, True, "an empty answer"),
        ("cancelled", None, None, 0, None, "nobody knows how it would have gone"),
        ("cancelled", 10.5, 10.6, 2, True, "it was good as long as it went"),
        ("cancelled", 11.5, 11.6, 2, False, "it was late before the client left"),
        ("deadline", 10.5, 10.6, 2, False, "it did not end"),
        ("worker_crashed", None, None, 0, False, "it failed"),
        ("refused", None, None, 0, False, "it failed"),
    ],
)
def test_slos_are_met_or_not(
    outcome: str,
    first_s: float | None,
    last_s: float | None,
    num_tokens: int,
    met: bool | None,
    why: str,
) -> None:
    result = judge(TARGETS, RequestOutcome(outcome), moments(first_s, last_s, num_tokens))

    assert result.is_met is met, why
    assert (result.miss is None) is (met is not False)


def test_both_times_are_told_in_milliseconds() -> None:
    """500 ms to the first token, then 4 tokens in 300 ms."""
    result = judge(TARGETS, RequestOutcome.STOP, moments(10.5, 10.8, 5))

    assert result.ttft_ms == pytest.approx(500.0)
    assert result.tpot_ms == pytest.approx(75.0)


@pytest.mark.parametrize("num_tokens", [0, 1])
def test_less_than_two_tokens_have_no_time_per_token(num_tokens: int) -> None:
    first_s = 10.5 if num_tokens else None
    result = judge(TARGETS, RequestOutcome.STOP, moments(first_s, first_s, num_tokens))

    assert result.tpot_ms is None
    assert (result.ttft_ms is None) is (num_tokens == 0)


@dataclass(frozen=True)
class LateStart:
    """A request whose first token came at 20 s, ten seconds after it arrived."""

    why: str
    marks: Marks
    miss: SloMiss
    engine: EngineTimes = field(default_factory=EngineTimes)


@pytest.mark.parametrize(
    "case",
    [
        LateStart(
            "6 s in the queue, 4 s of prefill", ((ENGINE, 16.0),), SloMiss.QUEUE, EngineTimes(4.0)
        ),
        LateStart(
            "4 s in the queue, 6 s of prefill",
            ((ENGINE, 14.0),),
            SloMiss.PREFILL,
            EngineTimes(6.0),
        ),
        LateStart("warm, and nothing is told by the agent", ((ENGINE, 10.0),), SloMiss.PREFILL),
        LateStart(
            "warm: the agent had it 4 s of 10, request and token were 6 s on their way",
            ((ENGINE, 10.0),),
            SloMiss.NETWORK,
            EngineTimes(4.0),
        ),
        LateStart(
            "a start of 8 s: 5 s until the weights were there",
            ((START, 10.5), (WEIGHTS, 11.0), (START, 16.0), (ENGINE, 19.0)),
            SloMiss.NETWORK,
        ),
        LateStart(
            "a start of 8 s: 3 s of it for weights",
            ((START, 10.5), (WEIGHTS, 11.0), (START, 14.0), (ENGINE, 19.0)),
            SloMiss.COLD_START,
        ),
        LateStart(
            "start 2.5 s and weights 2.5 s are more than the 4.5 s in the queue",
            ((START, 14.5), (WEIGHTS, 17.0), (ENGINE, 19.5)),
            SloMiss.COLD_START,
        ),
        LateStart(
            "nobody said that the endpoint was ready before the token came",
            ((START, 11.0),),
            SloMiss.COLD_START,
        ),
        LateStart(
            "what an agent had before its endpoint was ready is no prefill",
            ((START, 11.0), (ENGINE, 19.0)),
            SloMiss.COLD_START,
            EngineTimes(9.0),
        ),
        LateStart(
            "a start of 4 s was in vain, and 5 s were waited for another endpoint",
            ((START, 10.0), (ENDPOINT, 14.0), (ENGINE, 19.0)),
            SloMiss.QUEUE,
        ),
    ],
    ids=lambda case: case.why,
)
def test_a_late_first_token_has_the_largest_part_of_its_time_as_reason(case: LateStart) -> None:
    late = moments(20.0, 20.0, 1, case.marks, case.engine)

    assert judge(TARGETS, RequestOutcome.STOP, late).miss is case.miss


@pytest.mark.parametrize(
    ("marks", "engine", "miss", "why"),
    [
        ((), EngineTimes(), SloMiss.ENGINE, "an endpoint had it all the time"),
        ((), EngineTimes(0.1, 7.5), SloMiss.ENGINE, "for the agent it took 7.5 s, too"),
        ((), EngineTimes(0.1, 3.0), SloMiss.NETWORK, "for the agent it took 3 s: 5 s on the way"),
        (
            ((ENDPOINT, 12.0), (ENGINE, 17.0)),
            EngineTimes(),
            SloMiss.QUEUE,
            "its endpoint was lost, 5 s passed until another one had it",
        ),
        (
            ((ENDPOINT, 12.0), (START, 12.5), (ENGINE, 17.5)),
            EngineTimes(),
            SloMiss.COLD_START,
            "its endpoint was lost, another one started for 5 s",
        ),
    ],
)
def test_slow_tokens_have_the_largest_part_of_their_time_as_reason(
    marks: Marks, engine: EngineTimes, miss: SloMiss, why: str
) -> None:
    """Nine tokens after the first in 8 s: 889 ms each."""
    slow = moments(10.5, 18.5, 10, ((ENGINE, 10.0), *marks), engine)

    assert judge(TARGETS, RequestOutcome.LENGTH, slow).miss is miss, why


def test_a_first_token_that_is_late_is_the_reason_also_where_the_others_were_slow() -> None:
    """7 s in the queue, a prefill of 1 s, then 50 s for 9 tokens."""
    late = moments(18.0, 68.0, 10, ((ENGINE, 17.0),))

    assert judge(TARGETS, RequestOutcome.STOP, late).miss is SloMiss.QUEUE


@pytest.mark.parametrize(
    ("first_s", "marks", "miss", "why"),
    [
        (None, (), SloMiss.QUEUE, "no endpoint ever had it"),
        (None, ((START, 11.0),), SloMiss.COLD_START, "its endpoint still starts"),
        (None, ((START, 11.0), (WEIGHTS, 12.0)), SloMiss.NETWORK, "its weights are on the way"),
        (10.5, ((ENGINE, 10.0),), SloMiss.ENGINE, "its tokens took too long, all together"),
        (12.0, ((ENGINE, 10.0),), SloMiss.PREFILL, "its first token was late, and others, too"),
    ],
)
def test_a_deadline_has_as_reason_what_was_waited_for(
    first_s: float | None, marks: Marks, miss: SloMiss, why: str
) -> None:
    last_s = None if first_s is None else 20.0
    ended = moments(first_s, last_s, 200 if first_s else 0, marks, ended_s=20.0)

    assert judge(TARGETS, RequestOutcome.DEADLINE, ended).miss is miss, why


@pytest.mark.parametrize(
    ("ended_s", "met", "miss"), [(10.9, None, None), (11.1, False, SloMiss.COLD_START)]
)
def test_a_client_that_leaves_before_its_first_token_was_in_time_or_not(
    ended_s: float, met: bool | None, miss: SloMiss | None
) -> None:
    left = moments(None, None, 0, ((START, 10.1),), ended_s=ended_s)

    result = judge(TARGETS, RequestOutcome.CANCELLED, left)

    assert (result.is_met, result.miss) == (met, miss)


_MARKS = st.lists(st.tuples(st.sampled_from(WaitFor), st.floats(10.0, 30.0)), max_size=8)
_TOLD = st.none() | st.floats(0.0, 50.0)


@given(
    outcome=st.sampled_from(RequestOutcome),
    marks=_MARKS,
    first_s=st.none() | st.floats(10.0, 20.0),
    later_s=st.floats(0.0, 20.0),
    engine=st.builds(EngineTimes, _TOLD, _TOLD),
    num_tokens=st.integers(1, 100),
)
def test_whatever_happened_a_request_is_met_or_has_one_reason(
    outcome: RequestOutcome,
    marks: list[tuple[WaitFor, float]],
    first_s: float | None,
    later_s: float,
    engine: EngineTimes,
    num_tokens: int,
) -> None:
    last_s = None if first_s is None else first_s + later_s
    happened = moments(
        first_s, last_s, 0 if first_s is None else num_tokens, tuple(marks), engine, ended_s=40.0
    )

    result = judge(TARGETS, outcome, happened)

    assert (result.miss is None) is (result.is_met is not False)
    is_late = any(
        value is not None and value > target
        for value, target in ((result.ttft_ms, 1000), (result.tpot_ms, 100))
    )
    assert not (is_late and result.is_met)
