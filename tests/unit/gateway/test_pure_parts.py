"""Small pure parts: events, metrics, SLOs, settings, timeouts, names."""

import json

import pytest

from libs.common.bus.messages import RequestProgressed, SamplingParameters
from libs.common.errors import SettingsError
from libs.common.settings import Environment
from libs.common.states import RequestOutcome
from services.gateway.api.schemas import ModelChange, NewModel
from services.gateway.auth import Caller
from services.gateway.errors import InvalidRequest
from services.gateway.generation.job import Job
from services.gateway.generation.record import is_slo_met
from services.gateway.metrics import Counter, Histogram
from services.gateway.openai import sse
from services.gateway.openai.prepare import parse_timeout_s
from services.gateway.settings import GatewaySettings


def test_progress_is_a_comment_or_an_event_that_says_the_same() -> None:
    progress = RequestProgressed(request_id="req-1", phase="queued", queue_position=2)

    comment = sse.progress_frame(progress, as_event=False).decode()
    event = sse.progress_frame(progress, as_event=True).decode()

    assert comment == ': progress {"phase":"queued","queue_position":2}\n\n'
    assert event == 'event: progress\ndata: {"phase":"queued","queue_position":2}\n\n'


def test_a_data_frame_is_one_event_whatever_the_text_holds() -> None:
    frame = sse.data_frame(json.dumps({"text": "a\n\ndata: b\r\n"}).encode())

    assert frame.count(b"\n\n") == 1
    assert frame.endswith(b"\n\n")


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, 600.0), ("1500", 1.5), ("1", 0.001), ("999999999", 600.0)]
)
def test_the_header_can_only_lower_the_deadline(header: str | None, seconds: float) -> None:
    assert parse_timeout_s(header, 600.0) == seconds


@pytest.mark.parametrize("header", ["", "0", "-1", "1.5", "٣", "1e3", "x" * 99])
def test_a_deadline_that_is_no_number_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_timeout_s(header, 600.0)


JOB = Job(
    request_id="req-1",
    gateway_id="g",
    caller=Caller("t", "k"),
    model_id="m",
    slo_ttft_ms=1000,
    slo_tpot_ms=100,
    prompt_ids=(1,),
    sampling=SamplingParameters(max_tokens=5, seed=0),
    arrived_s=10.0,
    deadline_s=100.0,
)


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
        ("deadline", 10.5, 10.6, 2, False, "it did not end"),
        ("worker_crashed", None, None, 0, False, "it failed"),
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
    assert is_slo_met(JOB, RequestOutcome(outcome), first_s, last_s, num_tokens) is met, why


def test_metrics_are_written_as_prometheus_reads_them() -> None:
    counter = Counter("c_total", "Counts", ("name",))
    counter.add(('a"b\n',), 2)
    counter.add(("long",), 12_345_678)
    histogram = Histogram("h_seconds", "Takes", (), buckets=(1, 2))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe((), value)

    assert list(counter.lines()) == [
        "# HELP c_total Counts",
        "# TYPE c_total counter",
        'c_total{name="a\\"b\\n"} 2',
        'c_total{name="long"} 12345678',
    ]
    assert list(histogram.lines())[2:] == [
        'h_seconds_bucket{le="1"} 2',
        'h_seconds_bucket{le="2"} 3',
        'h_seconds_bucket{le="+Inf"} 4',
        "h_seconds_sum 12",
        "h_seconds_count 4",
    ]


def test_a_change_holds_only_what_was_given_and_null_only_where_it_means_something() -> None:
    change = ModelChange.model_validate(
        {"keep_alive_s": 5.0, "max_queue": None, "kv_cache_bytes": None, "slo": {"ttft_ms": 9}}
    )

    assert change.columns() == {"keep_alive_s": 5.0, "kv_cache_bytes": None, "slo_ttft_ms": 9}


@pytest.mark.parametrize("name", ["a", "org/model-1.0_x", "A" * 128])
def test_good_names_are_taken(name: str) -> None:
    assert NewModel(name=name, source="/m").columns()["name"] == name


@pytest.mark.parametrize("name", ["", "/a", "a b", "a\n", "é", "A" * 129, "..", "-a"])
def test_bad_names_are_not(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        NewModel(name=name, source="/m")


def environment(**changes: str) -> Environment:
    values = {
        "NATS_URL": "nats://h:1", "NATS_USER": "gateway", "NATS_PASSWORD_FILE": "/dev/null",
    }  # fmt: skip
    return Environment({f"HYDRA_{k}": v for k, v in {**values, **changes}.items()})


def test_a_bad_setting_names_its_key_and_value() -> None:
    with pytest.raises(SettingsError, match="HYDRA_GATEWAY_PORT is 'abc'"):
        GatewaySettings.read(environment(GATEWAY_PORT="abc"))
    with pytest.raises(SettingsError, match="HYDRA_GATEWAY_ID is 'Not An Id'"):
        GatewaySettings.read(environment(GATEWAY_ID="Not An Id"))
