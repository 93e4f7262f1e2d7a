"""`hydraserve usage` and `hydraserve requests`."""

from typing import Any

import pytest

from deploy.cli.output.usage_tables import memory_hours
from tests.unit.cli.server import MODEL, Server, run

# 1.5 GB for an hour: a quarter of it starting, a quarter busy, half idle.
USAGE: dict[str, Any] = {
    "memory": {
        "starting_byte_s": 1.35e12, "busy_byte_s": 1.35e12, "idle_byte_s": 2.7e12,
        "total_byte_s": 5.4e12,
    },
    "slo": {
        "num_met": 39, "num_missed": 1, "attainment": 0.975, "missed": {"queue": 1},
    },
}  # fmt: skip
NOTHING: dict[str, Any] = {
    "memory": dict.fromkeys(USAGE["memory"], 0.0),
    "slo": {"num_met": 0, "num_missed": 0, "attainment": None, "missed": {}},
}
REPORT = {
    "since": "2026-01-01T10:00:00Z",
    "until": "2026-01-01T10:30:00Z",
    "models": [
        {"tenant": "acme", "model_id": "model-1", "model": "tiny", **USAGE},
        {"tenant": "acme", "model_id": "model-2", "model": None, **NOTHING},
    ],
}
REQUEST = {
    "id": "req-1", "model_id": "model-1", "model": "tiny", "state": "ENDED", "outcome": "stop",
    "arrived_at": "2026-01-01T00:00:00Z", "ttft": {"took_ms": 1500.4, "slo_ms": 1000},
    "tpot": {"took_ms": None, "slo_ms": 100}, "is_slo_met": False, "slo_miss": "cold_start",
}  # fmt: skip


def test_usage_is_a_line_for_each_model() -> None:
    server = Server({"GET /api/v1/usage": REPORT})

    result = run("usage --hours 48 --tenant acme", server)

    _, tiny, forgotten = result.stdout.splitlines()
    assert tiny.split() == ("tiny acme 1.5 GB h 25.0 % 25.0 % 50.0 % 40 97.5 % 1 queue".split())
    assert forgotten.split() == "model-2 acme 0 B h - - - 0 - -".split()
    assert dict(server.requests[0].url.params) == {"hours": "48", "limit": "50", "tenant": "acme"}
    assert "2026-01-01T10:00" in result.stderr


def test_requests_are_listed_with_what_they_took_and_why_they_were_late() -> None:
    met = REQUEST | {"is_slo_met": True, "slo_miss": None}
    unknown = REQUEST | {"is_slo_met": None, "slo_miss": None, "outcome": None}
    server = Server({"GET /api/v1/requests": [[REQUEST, met, unknown]]})

    result = run("requests --missed --reason cold_start --model tiny", server)

    _, late, in_time, open_one = result.stdout.splitlines()
    assert late.split()[-8:] == "1500 ms 1000 ms - 100 ms cold_start".split()
    assert in_time.split()[-1] == "met"
    assert "ENDED" in open_one and open_one.split()[-1] == "-"
    assert dict(server.requests[0].url.params) == {
        "model": "tiny", "reason": "cold_start", "missed": "true", "hours": "24", "limit": "20",
    }  # fmt: skip


def test_a_models_page_says_what_it_cost_lately() -> None:
    model = MODEL | {"usage": {"last_hour": NOTHING, "last_day": USAGE}}

    shown = run("models show tiny", Server({"GET /api/v1/models/tiny": model})).stdout

    assert "no requests; 0 B h of memory" in shown
    assert "97.5 % of 40 met (1 queue); 1.5 GB h of memory" in shown


def test_a_models_page_is_there_without_what_it_cost() -> None:
    model = MODEL | {"usage": None}

    assert (
        "last day" not in run("models show tiny", Server({"GET /api/v1/models/tiny": model})).stdout
    )


@pytest.mark.parametrize(
    ("byte_s", "words"), [(0.0, "0 B h"), (3.6e12, "1.0 GB h"), (3.6e15, "1.0 TB h")]
)
def test_memory_is_told_by_the_hour(byte_s: float, words: str) -> None:
    assert memory_hours(byte_s) == words
