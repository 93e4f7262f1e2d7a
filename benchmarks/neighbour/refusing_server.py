"""A server that does nothing but read: `python -m benchmarks.neighbour.refusing_server`.

What the load costs the machine even so is the control of the measurement: it answers small
requests with the head of a stream and holds them, large ones, once read, with 429. It prints its
port and ends when its input does.
"""

import asyncio
import re
import sys

from benchmarks.neighbour.load_client import HOST

_LARGE_BYTES = 10_000
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_HELD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_REFUSED = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"


class RefusingServer(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._head = b""
        self._num_left: int | None = None  # bytes of the body to come; None: its head comes first
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._num_left is None:
            data = self._read_head(data)
        if self._num_left is None:
            return
        self._num_left -= len(data)
        if self._num_left <= 0:
            self._answer(_REFUSED)

    def _read_head(self, data: bytes) -> bytes:
        """What came behind it."""
        head, found, rest = (self._head + data).partition(b"\r\n\r\n")
        self._head = head + found + rest if not found else b""
        length = _LENGTH.search(head)
        if not found or length is None:
            return b""
        self._num_left = int(length[1])
        if self._num_left < _LARGE_BYTES:
            self._answer(_HELD)
            return b""
        return rest

    def _answer(self, response: bytes) -> None:
        assert self._transport is not None
        self._num_left = None
        self._transport.write(response)


async def run() -> None:
    server = await asyncio.get_running_loop().create_server(RefusingServer, HOST, 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(run())
