"""`hydraserve chat`: the answer to stdout, everything else to stderr."""

import pytest

from tests.unit.cli.server import Server, error, piece, run, stream

CHAT = "POST /v1/chat/completions"


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
