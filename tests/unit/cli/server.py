"""Answers in the gateway's place, for commands that run in this process."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner, Result

from deploy.cli.main import app
from deploy.cli.session import Session
from deploy.local.state.state_folder import StateFolder

URL, KEY = "http://gateway.test", "hs-key"
Answer = Any  # JSON to answer 200 with, a Response, or a list to answer with one by one
MODEL: dict[str, Any] = {
    "name": "tiny",
    "source": "/models/tiny",
    "state": "READY",
    "cause": None,
    "bytes_done": 269_000_000,
    "bytes_total": 269_000_000,
    "architecture": "llama",
    "dtype": "bf16",
    "num_layers": 30,
    "weight_bytes": 269_000_000,
    "slo": {"ttft_ms": 10_000, "tpot_ms": 200},
    "keep_alive_s": 300.0,
    "max_pipeline_size": 4,
    "max_queue": 100,
    "max_slots": 16,
    "max_endpoints": 1,
    "max_context_tokens": None,
    "kv_cache_bytes": None,
    "engine": "auto",
    "created_at": "2026-01-01T00:00:00Z",
}


class Server:
    """`routes` by method and path; a list is used up but for its last answer."""

    def __init__(self, routes: Mapping[str, Answer]) -> None:
        self._routes = dict(routes)
        self.requests: list[httpx.Request] = []

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for request in self.requests if request.content]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._routes.get(f"{request.method} {request.url.path}")
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if answer is None:
            return error(404, "there is no such path", "not_found")
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, json=answer)


def run(
    arguments: str,
    answer: Callable[[httpx.Request], httpx.Response],
    *,
    text: str | None = None,
) -> Result:
    """A command whose stdin is `text`; no terminal anywhere."""
    state = StateFolder(Path("/nonexistent"))
    session = Session(URL, KEY, state, httpx.MockTransport(answer))
    return CliRunner().invoke(app, arguments, input=text, obj=session, prog_name="hydraserve")


def error(status: int, message: str, code: str, **headers: str) -> httpx.Response:
    body = {"error": {"message": message, "type": "x", "param": None, "code": code}}
    return httpx.Response(status, json=body, headers=headers)


def stream(*lines: str) -> httpx.Response:
    return httpx.Response(200, text="".join(f"{line}\n\n" for line in lines))


def piece(text: str) -> str:
    return "data: " + json.dumps({"choices": [{"delta": {"content": text}}]})
