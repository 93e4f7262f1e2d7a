"""What a cold start and a request waited for, as the API tells it."""

from datetime import UTC, datetime, timedelta

import pytest

from libs.common.observability.timeshares import Share
from services.gateway.api.timelines import timeline_of
from services.gateway.store.views import ColdStartDetail, StepView
from services.gateway.store.wait_times import RequestMoments, WaitTimes, wait_times

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float | None) -> datetime | None:
    return None if seconds is None else BEGAN + timedelta(seconds=seconds)


def step(actor: str, name: str, start_s: float, end_s: float | None) -> StepView:
    started_at = at(start_s)
    assert started_at is not None
    return StepView(name, actor, "node-0", 0, started_at, at(end_s), "")


def cold_start(*steps: StepView) -> ColdStartDetail:
    return ColdStartDetail(
        id="start-1",
        model_id="model-1",
        model="tiny",
        endpoint_id="endpoint-1",
        request_id="req-1",
        traceparent=None,
        weight_bytes=100,
        bytes_from_cache=0,
        predicted_ttft_ms=None,
        measured_ttft_ms=None,
        predicted_tpot_ms=None,
        predicted_cost_byte_s=None,
        cause=None,
        cause_kind=None,
        guilty_worker_id=None,
        started_at=BEGAN,
        ready_at=None,
        ended_at=None,
        plans=(),
        steps=steps,
    )


def test_a_cold_start_says_what_it_waited_for_and_how_long() -> None:
    timeline = timeline_of(
        cold_start(
            step("fetch/w0", "fetch", 0.0, 9.0),
            step("w0", "import", 0.0, 2.0),
            step("w0", "load", 2.0, 10.0),
        )
    )

    fetch, load = timeline.critical_path
    assert (fetch.name, fetch.started_at, fetch.ended_at) == ("fetch", at(0), at(9))
    assert (load.name, load.started_at, load.seconds) == ("load", at(9), 1.0)
    assert [(part.name, part.fraction) for part in timeline.shares] == [
        (Share.NETWORK, 0.9),
        (Share.LOADING, 0.1),
    ]


def test_a_cold_start_that_goes_on_waits_for_what_runs() -> None:
    timeline = timeline_of(
        cold_start(
            step("fetch/w0", "fetch", 0.0, None),
            step("fetch/w0", "fetch.readable_25%", 0.0, 3.0),
        )
    )

    assert [(part.name, part.ended_at) for part in timeline.critical_path] == [("fetch", at(3))]


def test_a_cold_start_without_steps_has_no_path() -> None:
    timeline = timeline_of(cold_start())

    assert (timeline.critical_path, timeline.shares) == ((), ())


@pytest.mark.parametrize(
    ("assigned_s", "has_cold_start", "ready_s", "first_token_s", "expected"),
    [
        (None, False, None, None, WaitTimes(None, None, None)),  # still queued
        (None, False, None, 0.5, WaitTimes(0, 0, 0.5)),  # found a serving endpoint by itself
        (2.0, False, None, 2.5, WaitTimes(2, 0, 0.5)),  # given to an endpoint that served already
        (1.0, True, None, None, WaitTimes(1, None, None)),  # its endpoint is starting
        (1.0, True, 6.0, None, WaitTimes(1, 5, None)),  # its prompt is being computed
        (1.0, True, 6.0, 6.5, WaitTimes(1, 5, 0.5)),
        (1.0, True, 6.0, 5.99, WaitTimes(1, 5, 0)),  # a token before the row said ready
        (7.0, True, 6.0, 8.0, WaitTimes(7, 0, 1)),  # came in time, but there was no slot for it
        (
            0.25,
            True,
            4.75,
            5.0,
            WaitTimes(0.25, 4.5, 0.25),
        ),  # to a start that was replaced
        (1.0, True, None, 3.0, WaitTimes(1, 2, 0)),  # answered by an endpoint that then failed
    ],
)
def test_what_a_request_waited_for_adds_up_to_its_first_token(
    assigned_s: float | None,
    has_cold_start: bool,
    ready_s: float | None,
    first_token_s: float | None,
    expected: WaitTimes,
) -> None:
    moments = RequestMoments(BEGAN, at(assigned_s), at(first_token_s), has_cold_start, at(ready_s))

    assert wait_times(moments) == expected
