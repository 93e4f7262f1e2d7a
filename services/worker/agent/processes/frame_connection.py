"""The agent's end of a worker's socketpair: frames out at once, frames in one by one."""

import asyncio
import socket
from collections.abc import AsyncIterator

from services.worker.errors import FrameError
from services.worker.frames.frames import (
    HEADER_BYTES,
    ToAgent,
    ToWorker,
    body_length,
    decode_to_agent,
    encode,
)

CLOSE_TIMEOUT_S = 1.0


class FrameConnection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, agent_end: socket.socket) -> "FrameConnection":
        """Takes over the socket."""
        return cls(*await asyncio.open_unix_connection(sock=agent_end))

    def send(self, frame: ToWorker) -> None:
        """Never waits: what the worker does not read yet is bounded by the admitted requests."""
        if not self._writer.is_closing():
            self._writer.write(encode(frame))

    async def frames(self) -> AsyncIterator[ToAgent]:
        """Until the worker closes its end. Raises FrameError for what is no frame."""
        while (body := await read_body(self._reader)) is not None:
            yield decode_to_agent(body)

    async def close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._writer.wait_closed()
        except (TimeoutError, OSError):
            self._writer.transport.abort()


async def read_body(reader: asyncio.StreamReader) -> bytes | None:
    """The next frame's body, or None at a clean end. Raises FrameError when cut off inside one."""
    try:
        header = await reader.readexactly(HEADER_BYTES)
    except asyncio.IncompleteReadError as exc:
        if exc.partial:
            raise FrameError("the stream ended inside a header") from exc
        return None
    except ConnectionError:
        return None  # the other process is gone: the same as a clean end
    try:
        return await reader.readexactly(body_length(header))
    except (asyncio.IncompleteReadError, ConnectionError) as exc:
        raise FrameError("the stream ended inside a frame") from exc
