"""Asks a gateway as a client would: one streamed chat completion per question."""

import asyncio
import json
import time
from dataclasses import dataclass

HOST = "127.0.0.1"
PATIENCE_S = 600.0  # as long as a request may take


@dataclass(frozen=True)
class Outcome:
    """Moments are `time.monotonic()`. `status` is the response's, or 0 with `error`."""

    request_id: str
    sent_s: float
    first_token_s: float | None
    ended_s: float
    status: int
    error: str = ""

    @property
    def is_whole(self) -> bool:
        return self.status == 200 and not self.error

    @property
    def status_words(self) -> str:
        return "whole" if self.is_whole else f"{self.status} {self.error}".strip()


async def ask(port: int, key: str, model: str, max_tokens: int) -> Outcome:
    sent_s = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await _ask(port, key, model, max_tokens, sent_s)
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as exc:
        return Outcome("", sent_s, None, time.monotonic(), 0, type(exc).__name__)


async def _ask(port: int, key: str, model: str, max_tokens: int, sent_s: float) -> Outcome:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(_request(key, model, max_tokens))
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status, request_id = int(head[9:12]), _header(head, "x-request-id")
        first_s, error, is_done = None, "", False
        if status != 200:
            error = _header(head, "x-hydra-reason") or "no reason given"
        while line := await reader.readline():
            if line.startswith(b"data: {"):
                if b'"error"' in line:
                    error = json.loads(line[6:])["error"]["message"]
                elif first_s is None and b'"content":' in line:
                    first_s = time.monotonic()
            is_done |= line.startswith(b"data: [DONE]")
        if status == 200 and not is_done and not error:
            error = "the stream was cut"
        return Outcome(request_id, sent_s, first_s, time.monotonic(), status, error)
    finally:
        writer.close()


def _request(key: str, model: str, max_tokens: int) -> bytes:
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": "What is a cold start?"}],
            "max_tokens": max_tokens,
            "stream": True,
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {HOST}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _header(head: str, name: str) -> str:
    prefix = f"{name}:"
    lines = (line for line in head.split("\r\n") if line.lower().startswith(prefix))
    return next((line.partition(":")[2].strip() for line in lines), "")
