"""`hydraserve cold-starts`."""

from typing import Any

import pytest

from tests.unit.cli.server import Server, run

START: dict[str, Any] = {
    "id": "start-1",
    "model": "tiny",
    "weight_bytes": 269_000_000,
    "bytes_from_cache": 0,
    "cause": None,
    "started_at": "2026-01-01T00:00:00Z",
    "ready_at": "2026-01-01T00:00:05.5Z",
    "ended_at": "2026-01-01T00:00:05.5Z",
}


def step(actor: str, name: str, start_s: float, end_s: float) -> dict[str, Any]:
    moments = [f"2026-01-01T00:00:{seconds:06.3f}Z" for seconds in (start_s, end_s)]
    times = {"started_at": moments[0], "ended_at": moments[1]}
    return {"actor": actor, "name": name, "node_id": "node-0", "stage_index": 0, **times}


def test_cold_starts_are_listed() -> None:
    failed = START | {"id": "start-2", "ready_at": None, "cause": "node-1\nis gone"}
    server = Server({"GET /api/v1/cold-starts": [[failed, START]]})

    result = run("cold-starts ls --model tiny --limit 5", server)

    assert [line.split()[0] for line in result.stdout.splitlines()] == ["ID", "start-2", "start-1"]
    assert "node-1 is gone" in result.stdout and "5.50 s" in result.stdout
    assert dict(server.requests[0].url.params) == {"limit": "5", "model": "tiny"}


@pytest.mark.parametrize("arguments", ["cold-starts show", "cold-starts show start-1"])
def test_a_cold_start_is_shown_with_its_bars_and_its_critical_path(arguments: str) -> None:
    steps = [step("fetch/w0", "fetch", 0.1, 5.1), step("w0", "load", 2.0, 5.5)]
    server = Server(
        {
            "GET /api/v1/cold-starts": [[START]],
            "GET /api/v1/cold-starts/start-1": START | {"steps": steps},
        }
    )

    result = run(arguments, server)

    assert result.exit_code == 0
    assert "start-1: tiny, ready after 5.50 s" in result.stdout
    assert "critical path: 93 % network, 7 % loading" in result.stdout
    assert "█" in result.stdout and "\x1b" not in result.stdout


def test_without_a_cold_start_there_is_none_to_show() -> None:
    result = run("cold-starts show", Server({"GET /api/v1/cold-starts": [[]]}))

    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
