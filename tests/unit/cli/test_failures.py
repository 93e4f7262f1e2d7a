"""How every command ends when the server refuses, is away, or the command line is wrong."""

import httpx
import pytest

from tests.unit.cli.server import Server, error, run


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
