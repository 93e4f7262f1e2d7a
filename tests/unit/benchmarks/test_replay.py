"""Traces that are replayed, and what is kept of runs."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.replay.client import ClientAnswer
from benchmarks.replay.collecting import request_records, start_records
from benchmarks.replay.models import MODELS, SMALL
from benchmarks.replay.record import MeasuredValues, ModelFacts, RunRecord
from benchmarks.replay.trace import TraceRequest, TraceShape, draw

BEGAN_AT = datetime(2026, 11, 29, 12, 0, 0, tzinfo=UTC)


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(BEGAN_AT.timestamp() + seconds, UTC).isoformat()


def request_row(**more: Any) -> Mapping[str, Any]:
    return {
        "arrived_at": moment(1.5),
        "ttft": {"took_ms": 250.0, "slo_ms": 1000},
        "tpot": {"took_ms": None, "slo_ms": 100},
        "cold_start_id": "start",
        "endpoint_id": "endpoint",
        "num_prompt_tokens": 20,
        "num_generated_tokens": 1,
    } | more


def start_row() -> Mapping[str, Any]:
    step = {
        "actor": "worker",
        "name": "spawn",
        "node_id": "node-0",
        "stage_index": 0,
        "started_at": moment(1.6),
        "ended_at": moment(1.7),
        "detail": "standby",
    }
    return {
        "model": "tiny-0",
        "endpoint_id": "endpoint",
        "request_id": "request",
        "started_at": moment(1.55),
        "weight_bytes": 100,
        "bytes_from_cache": 40,
        "predicted_ttft_ms": 200.0,
        "measured_ttft_ms": None,
        "plans": [{"num_stages": 2}, {"num_stages": 1}],
        "steps": [step],
    }


def asked(index: int = 0) -> TraceRequest:
    return TraceRequest(index, 1.5, "tiny-0", 16, 8)


def test_a_trace_has_as_many_requests_as_its_rate_says_in_order_and_is_the_same_again() -> None:
    """0.33 a second for 10 minutes are 198."""
    trace = draw(TraceShape(), MODELS, 600.0, seed=1)
    assert len(trace) == 198
    assert [request.index for request in trace] == list(range(198))
    assert sorted(trace, key=lambda request: request.at_s) == trace
    assert all(0 <= request.at_s < 600 and 8 <= request.max_tokens <= 40 for request in trace)
    assert draw(TraceShape(), MODELS, 600.0, seed=1) == trace
    assert draw(TraceShape(), MODELS, 600.0, seed=2) != trace


def test_the_first_model_is_asked_for_most() -> None:
    """By Zipf's law with exponent 1 twice as often as the second one, but for chance."""
    trace = draw(TraceShape(rate_per_s=10.0, zipf_exponent=1.0), MODELS[:2], 1000.0, seed=3)
    first = sum(request.model == MODELS[0].name for request in trace)
    assert first / len(trace) == pytest.approx(2 / 3, abs=0.02)


def test_a_question_has_the_characters_that_were_drawn_and_begins_elsewhere_each_time() -> None:
    for num_characters in (1, 48, 500):
        request = TraceRequest(3, 0.0, "tiny-0", num_characters, 8)
        assert len(request.question) == num_characters
    assert asked(1).question != asked(2).question


def test_a_model_of_a_fixed_size_is_registered_so() -> None:
    fixed = next(model for model in MODELS if model.kind is SMALL and model.num_stages == 2)
    free = next(model for model in MODELS if model.kind is SMALL and model.num_stages is None)
    sizes = ("min_pipeline_size", "max_pipeline_size")
    assert [fixed.settings[key] for key in sizes] == [2, 2]
    assert [free.settings[key] for key in sizes] == [1, 4]
    assert fixed.settings["kv_cache_bytes"] == SMALL.kv_bytes


def test_what_became_of_a_request_is_told_by_its_row_and_by_its_start() -> None:
    answers = [ClientAnswer(0, "request", 0.26)]
    (record,) = request_records(
        [asked()], answers, {"request": request_row()}, {"start": start_row()}, BEGAN_AT
    )
    assert (record.arrived_at_s, record.ttft_s, record.tpot_s) == (1.5, 0.25, None)
    assert (record.is_cold, record.num_stages) == (True, 2)
    assert record.has_met_ttft and record.has_met_tpot


def test_a_request_without_a_row_or_with_an_error_has_met_nothing() -> None:
    lost, failed = request_records(
        [asked(0), asked(1)],
        [ClientAnswer(0, "", None, "503"), ClientAnswer(1, "request", 0.2, "broken off")],
        {"request": request_row()},
        {},
        BEGAN_AT,
    )
    assert lost.error == "503"
    assert not any(r.is_served or r.has_met_ttft or r.has_met_tpot for r in (lost, failed))


def test_steps_of_a_start_count_from_its_decision() -> None:
    """Decided at 1.55 s; spawned from 1.6 to 1.7 s."""
    (start,) = start_records({"start": start_row()}, {"request": request_row()}, BEGAN_AT)
    assert start.at_s == pytest.approx(1.55)
    assert (start.num_stages, start.num_prompt_tokens, start.ttft_s) == (2, 20, 0.25)
    (step,) = start.steps
    assert step.start_s == pytest.approx(0.05)
    assert step.end_s == pytest.approx(0.15)


def test_a_run_is_the_same_after_it_was_written_and_read(tmp_path: Path) -> None:
    requests = request_records(
        [asked()],
        [ClientAnswer(0, "request", 0.26)],
        {"request": request_row()},
        {"start": start_row()},
        BEGAN_AT,
    )
    starts = start_records({"start": start_row()}, {"request": request_row()}, BEGAN_AT)
    record = RunRecord(
        run={"seed": 1},
        requests=tuple(requests),
        starts=tuple(starts),
        device_byte_s=5.0,
        measured=(MeasuredValues("tail_s", "node-0", "", (0.1, 0.2)),),
        launch_s={"node-0": 2.0},
        models=(ModelFacts("tiny-0", 3, 100, 10),),
    )
    record.write(tmp_path / "run.json")
    assert RunRecord.read(tmp_path / "run.json") == record
