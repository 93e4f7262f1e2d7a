"""Answers GET /metrics: one small document over HTTP/1.1, one request for each connection."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

REQUEST_TIMEOUT_S = 5.0  # to ask, and to take the answer
MAX_REQUEST_BYTES = 16 * 1024
MAX_CONNECTIONS = 16
_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def open_server(host: str, port: int, render: Callable[[], str]) -> asyncio.Server:
    """Listens until it is closed. Raises OSError where that is not possible."""
    connections = _Connections(render)
    return await asyncio.start_server(connections.serve, host, port, limit=MAX_REQUEST_BYTES)


class _Connections:
    """One more than MAX_CONNECTIONS is closed at once: nobody but a scraper asks."""

    def __init__(self, render: Callable[[], str]) -> None:
        self._render, self._num_open = render, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._num_open += 1
        try:
            if self._num_open <= MAX_CONNECTIONS:
                with suppress(TimeoutError, ConnectionError):
                    async with asyncio.timeout(REQUEST_TIMEOUT_S):
                        await self._answer(reader, writer)
        finally:
            self._num_open -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        request_line = head.partition(b"\r\n")[0].split()
        if len(request_line) != 3 or request_line[0] not in (b"GET", b"HEAD"):
            answer = _response("405 Method Not Allowed", "only GET /metrics is answered here\n")
        elif request_line[1].partition(b"?")[0] != b"/metrics":
            answer = _response("404 Not Found", "only /metrics is here\n")
        else:
            answer = _response("200 OK", self._render())
        writer.write(answer if request_line[:1] != [b"HEAD"] else _head_of(answer))
        await writer.drain()


def _response(status: str, text: str) -> bytes:
    body = text.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def _head_of(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
