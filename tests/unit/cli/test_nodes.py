"""`hydraserve nodes` and `hydraserve status`."""

from typing import Any

import httpx
import pytest

from tests.unit.cli.server import MODEL, Server, run

NODE: dict[str, Any] = {
    "id": "node-0",
    "agent_heard_at": "2026-01-01T00:00:00Z",
    "fetcher_heard_at": "2026-01-01T00:00:00Z",
    "num_standbys": 1,
    "nic_bytes_per_s": 50_000_000,
    "cache_capacity_bytes": 1_000_000_000,
    "cache_used_bytes": 269_000_000,
    "devices": [{"kind": "cpu", "memory_bytes": 2_000_000_000, "reserved_bytes": 500_000_000}],
    "workers": [],
}


def test_nodes_say_what_they_hold() -> None:
    result = run("nodes", Server({"GET /api/v1/nodes": [[NODE]]}))

    headings, row = result.stdout.splitlines()
    assert (headings.split()[-1], row.split()[-1]) == ("STANDBYS", "1")
    assert row.startswith("node-0") and "d ago" in row
    assert "500.0 MB of 2.0 GB" in row and "50.0 MB/s" in row and "269.0 MB of 1.0 GB" in row


def test_a_node_whose_heartbeats_are_invalid_says_what_is_wrong() -> None:
    invalid = NODE | {"agent_invalid": "workers.address is no address"}
    result = run("nodes", Server({"GET /api/v1/nodes": [[invalid]]}))

    _, row, words = result.stdout.splitlines()
    assert row.split()[1] == "invalid"
    assert words.startswith("node-0 is invalid") and "agent's workers.address" in words


@pytest.mark.parametrize(
    ("readiness", "exit_code"),
    [
        (httpx.Response(200, json={"status": "ready"}), 0),
        (httpx.Response(503, json={"status": "not ready", "reasons": ["draining"]}), 5),
    ],
)
def test_status_sums_up_and_its_exit_code_tells_if_it_is_ready(
    readiness: httpx.Response, exit_code: int
) -> None:
    endpoint = {"id": "e", "model": "tiny", "state": "STANDALONE", "num_stages": 1}
    worker = {"id": "w", "node_id": "node-0", "state": "READY"}
    server = Server(
        {
            "GET /readyz": readiness,
            "GET /api/v1/models": [[MODEL, MODEL | {"state": "FAILED"}]],
            "GET /api/v1/endpoints": [[endpoint | {"workers": [worker]}]],
            "GET /api/v1/nodes": [[NODE]],
        }
    )

    result = run("status", server)

    assert result.exit_code == exit_code
    assert "1 FAILED, 1 READY" in result.stdout
    assert "tiny STANDALONE on node-0" in result.stdout
    assert ("draining" in result.stderr) == (exit_code != 0)
