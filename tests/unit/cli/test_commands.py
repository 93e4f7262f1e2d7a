"""Commands against a server's answers: what they print where, and how they end."""

import json
from typing import Any

import httpx
import pytest

from tests.unit.cli.server import KEY, MODEL, Server, error, piece, run, stream

CHAT = "POST /v1/chat/completions"
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


def test_models_are_listed_and_the_key_is_sent() -> None:
    server = Server({"GET /api/v1/models": [[MODEL]]})

    result = run("models ls", server)

    assert result.exit_code == 0
    heading, row = result.stdout.splitlines()
    assert heading.split()[:2] == ["NAME", "STATE"]
    assert row.split() == ["tiny", "READY", "269.0", "MB", "30", "bf16", "-"]
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_json_is_what_the_api_sent() -> None:
    result = run("models ls --json", Server({"GET /api/v1/models": [[MODEL]]}))

    assert json.loads(result.stdout) == [MODEL]
    assert "\x1b" not in result.stdout, "no colours in a pipe"


def test_a_model_is_added_and_followed_until_it_is_ready() -> None:
    importing = MODEL | {"state": "IMPORTING", "bytes_done": 100}
    server = Server(
        {
            "POST /api/v1/models": httpx.Response(202, json=importing),
            "GET /api/v1/models/org/tiny": [importing, MODEL],
        }
    )

    result = run("models add org/tiny /models/tiny --ttft-ms 900 --keep-alive 5", server)

    assert result.exit_code == 0
    assert "READY" in result.stdout
    assert result.stderr.splitlines() == ["org/tiny IMPORTING", "org/tiny READY"]
    assert server.bodies == [
        {
            "name": "org/tiny",
            "source": "/models/tiny",
            "keep_alive_s": 5.0,
            "slo": {"ttft_ms": 900},
        }
    ]


def test_a_model_is_added_with_all_its_settings() -> None:
    server = Server({"POST /api/v1/models": httpx.Response(202, json=MODEL)})
    options = "--kv-cache-bytes 512Mi --max-context-tokens 900 --max-pipeline-size 2 --public"

    run(f"models add tiny /models/tiny --no-wait {options}", server)

    assert server.bodies[0] == {
        "name": "tiny",
        "source": "/models/tiny",
        "kv_cache_bytes": 512 * 2**20,
        "max_context_tokens": 900,
        "max_pipeline_size": 2,
        "public": True,
    }


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (
            "--kv-cache-bytes 2G --max-context-tokens 900 --max-pipeline-size 2 --keep-alive 5",
            {
                "kv_cache_bytes": 2 * 10**9,
                "max_context_tokens": 900,
                "max_pipeline_size": 2,
                "keep_alive_s": 5.0,
            },
        ),
        ("--tpot-ms 50", {"slo": {"tpot_ms": 50}}),
        (
            "--default-context --default-kv-cache",
            {"max_context_tokens": None, "kv_cache_bytes": None},
        ),
    ],
)
def test_a_model_is_changed_by_what_is_given_alone(options: str, body: dict[str, Any]) -> None:
    server = Server({"PATCH /api/v1/models/tiny": MODEL | {"kv_cache_bytes": 2 * 10**9}})

    result = run(f"models set tiny {options}", server)

    assert result.exit_code == 0
    assert server.bodies == [body]
    assert "2.0 GB" in result.stdout


def test_a_failed_import_names_its_cause_and_what_to_do() -> None:
    failed = MODEL | {"state": "FAILED", "cause": "no config.json"}
    routes = {
        "POST /api/v1/models": httpx.Response(202, json=failed),
        "GET /api/v1/models/tiny": failed,
    }

    result = run("models add tiny /models/tiny", Server(routes))

    assert result.exit_code == 1
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("hydraserve: the import of tiny failed: no config.json; ")
    assert "hydraserve models rm tiny" in last


def test_no_wait_returns_at_once() -> None:
    importing = MODEL | {"state": "IMPORTING"}
    server = Server({"POST /api/v1/models": httpx.Response(202, json=importing)})

    result = run("models add tiny /models/tiny --no-wait", server)

    assert (result.exit_code, len(server.requests)) == (0, 1)
    assert "IMPORTING" in result.stdout


def test_one_model_is_shown_and_removed() -> None:
    routes = {
        "GET /api/v1/models/tiny": MODEL,
        "DELETE /api/v1/models/tiny": httpx.Response(202),
    }

    shown, removed = run("models show tiny", Server(routes)), run("models rm tiny", Server(routes))

    assert "269.0 MB, bf16, 30 layers" in shown.stdout
    assert (removed.exit_code, removed.stdout) == (0, "tiny is removed\n")


@pytest.mark.parametrize(
    ("answer", "exit_code", "line"),
    [
        (
            error(404, "the model 'tiny' does not exist", "model_not_found"),
            1,
            "the model 'tiny' does not exist; see 'hydraserve models ls'",
        ),
        (
            error(401, "this API key is not known", "invalid_api_key"),
            4,
            "this API key is not known; set HYDRASERVE_API_KEY or give --api-key",
        ),
        (
            error(429, "the queue is full", "queue_full", **{"Retry-After": "7"}),
            5,
            "the queue is full; try again in 7 s",
        ),
        (error(503, "the database is away", "x"), 5, "the database is away; try again later"),
        (httpx.Response(502, text="<p>\nBad"), 1, "the server answered 502 <p> Bad"),
        (httpx.Response(200, json={"name": 1}), 1, None),  # not what this client knows
    ],
)
def test_a_refusal_is_one_line_with_the_next_step(
    answer: httpx.Response, exit_code: int, line: str | None
) -> None:
    result = run("models show tiny", Server({"GET /api/v1/models/tiny": answer}))

    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    if line is not None:
        assert result.stderr == f"hydraserve: {line}\n"


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (httpx.ConnectError("connection refused"), "cannot reach"),
        (httpx.ReadTimeout("slow"), "did not answer in time"),
    ],
)
def test_a_server_that_is_not_there_is_named(raised: Exception, words: str) -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        raise raised

    result = run("nodes", answer)

    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 1
    assert words in result.stderr and "http://gateway.test" in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        "modles ls",
        "models ls --nope",
        "models show",
        "models",
        "models set tiny",  # what?
        "models set tiny --kv-cache-bytes much",
        "models set tiny --kv-cache-bytes=-5",
    ],
)
def test_a_wrong_command_line_is_one_line_too(line: str) -> None:
    result = run(line, Server({}))

    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert "--help'" in result.stderr


def test_without_a_command_there_is_help() -> None:
    result = run("", Server({}))

    assert result.exit_code == 0
    assert "Exit codes:" in result.stdout and "cold-starts" in result.stdout


def test_an_answer_goes_to_stdout_and_progress_to_stderr() -> None:
    progress = ': progress {"phase":"fetching","bytes_done":1000000,"bytes_total":269000000}'
    answer = stream(progress, progress, piece("Par"), piece("is."), "data: [DONE]")
    server = Server({CHAT: answer})

    result = run("chat tiny 'What is it?' --temperature 0 --max-tokens 9 --system Brief", server)

    assert result.exit_code == 0
    assert result.stdout == "Paris.\n"
    assert result.stderr.splitlines() == ["fetching, 1 of 269 MB"]
    (body,) = server.bodies
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert (body["temperature"], body["max_tokens"], body["stream"]) == (0, 9, True)


@pytest.mark.parametrize("arguments", ["chat tiny", "chat tiny -"])
def test_a_question_can_come_through_a_pipe(arguments: str) -> None:
    server = Server({CHAT: stream(piece("yes"))})

    result = run(arguments, server, text="is it?\n")

    assert (result.exit_code, result.stdout) == (0, "yes\n")
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "is it?\n"}]


def test_an_error_within_the_stream_ends_it_with_its_cause() -> None:
    broken = 'data: {"error":{"message":"two endpoints died"}}'

    result = run("chat tiny hello", Server({CHAT: stream(piece("Par"), broken)}))

    assert result.exit_code == 1
    assert result.stdout == "Par\n"
    assert result.stderr.splitlines()[-1].endswith("two endpoints died")


def test_a_full_queue_is_told_before_the_answer_begins() -> None:
    full = error(429, "the queue is full", "queue_full", **{"Retry-After": "7"})

    result = run("chat tiny hello", Server({CHAT: full}))

    assert (result.exit_code, result.stdout) == (5, "")


def test_nodes_say_what_they_hold() -> None:
    result = run("nodes", Server({"GET /api/v1/nodes": [[NODE]]}))

    headings, row = result.stdout.splitlines()
    assert (headings.split()[-1], row.split()[-1]) == ("STANDBYS", "1")
    assert row.startswith("node-0") and "d ago" in row
    assert "500.0 MB of 2.0 GB" in row and "50.0 MB/s" in row and "269.0 MB of 1.0 GB" in row


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
