"""`hydraserve models` against a server's answers: what it asks, prints and ends with."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.cli.server import KEY, MODEL, Server, run


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


def test_a_list_is_read_page_by_page() -> None:
    first = [MODEL | {"name": f"m{i}"} for i in range(3)]
    link = '</api/v1/models?after=m2&limit=3>; rel="next"'
    pages = [httpx.Response(200, json=first, headers={"Link": link}), [MODEL | {"name": "m3"}]]
    server = Server({"GET /api/v1/models": pages})

    result = run("models ls --json", server)

    assert [model["name"] for model in json.loads(result.stdout)] == ["m0", "m1", "m2", "m3"]
    assert [dict(r.url.params).get("after") for r in server.requests] == [None, "m2"]


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
    options += " --engine stage --full-memory-workers 1"

    run(f"models add tiny /models/tiny --no-wait {options}", server)

    assert server.bodies[0] == {
        "name": "tiny",
        "source": "/models/tiny",
        "kv_cache_bytes": 512 * 2**20,
        "max_context_tokens": 900,
        "max_pipeline_size": 2,
        "full_memory_workers": 1,
        "engine": "stage",
        "public": True,
    }


def test_a_chat_template_is_read_from_a_file_and_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "template.jinja"
    file.write_text("{{ messages[0].content }}é\n")
    server = Server(
        {
            "POST /api/v1/models": httpx.Response(202, json=MODEL),
            "PATCH /api/v1/models/tiny": [MODEL | {"chat_template_digest": "ab" * 32}, MODEL],
        }
    )

    run(f"models add tiny /models/tiny --no-wait --chat-template {file}", server)
    given = run(f"models set tiny --chat-template {file}", server)
    run("models set tiny --default-chat-template", server)

    templates = [body["chat_template"] for body in server.bodies]
    assert templates == [file.read_text(), file.read_text(), None]
    assert "given (BLAKE3 abababababab…)" in given.stdout


def test_a_template_that_is_no_text_is_not_sent(tmp_path: Path) -> None:
    file = tmp_path / "template.jinja"
    file.write_bytes(b"\xff\xfe")
    server = Server({})

    assert run(f"models set tiny --chat-template {file}", server).exit_code == 2
    assert server.requests == []


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
        ("--engine auto", {"engine": "auto"}),
        ("--full-memory-workers 2", {"full_memory_workers": 2}),
        ("--default-full-memory-workers", {"full_memory_workers": None}),
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
    ("settings", "words"),
    [
        ({}, "at most 4 stages"),
        ({"min_pipeline_size": 2}, "2 to 4 stages"),
        ({"full_memory_workers": 3}, "at most 4 stages, 3 with memory for the whole model"),
    ],
)
def test_a_model_is_shown_with_what_its_pipelines_are_made_of(
    settings: dict[str, Any], words: str
) -> None:
    result = run("models show tiny", Server({"GET /api/v1/models/tiny": MODEL | settings}))

    (line,) = [line for line in result.stdout.splitlines() if line.startswith("pipeline")]
    assert line.split(maxsplit=1)[1].strip() == words


def test_a_model_is_shown_with_the_weights_that_were_prefetched_last() -> None:
    old = {"node_id": "node-1", "state": "USED", "file_bytes": 269_000_000}
    new = {"node_id": "node-2", "state": "RUNNING", "file_bytes": 270_000_000}

    shown = run(
        "models show tiny", Server({"GET /api/v1/models/tiny": MODEL | {"prefetches": [new, old]}})
    )

    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("prefetched")]
    assert line.split(maxsplit=1)[1].strip() == "270.0 MB on node-2, RUNNING"
