"""A hollow worker's end of its socketpair: the real frames, on this process's event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

from services.worker.agent.processes.frame_connection import read_body
from services.worker.errors import FrameError
from services.worker.frames.frames import (
    StartWorker,
    StatsChanged,
    ToAgent,
    ToWorker,
    decode_to_worker,
    encode,
)


class FrameChannel:
    """Says regularly that its worker lives, as a real one does each second."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        alive_interval_s: float,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._alive_interval_s = alive_interval_s
        self._stats = StatsChanged(0, 0, 0)
        self._progress = 0
        self._alive = asyncio.get_running_loop().call_later(alive_interval_s, self._say_alive)

    @classmethod
    async def open(cls, worker_end: socket.socket, alive_interval_s: float) -> "FrameChannel":
        """Takes over the socket."""
        reader, writer = await asyncio.open_unix_connection(sock=worker_end)
        return cls(reader, writer, alive_interval_s)

    async def start_frame(self) -> StartWorker | None:
        """The first frame; None when the agent has gone before. Raises FrameError for any other."""
        frame = await self._next()
        if frame is not None and not isinstance(frame, StartWorker):
            raise FrameError(f"the first frame is a {type(frame).__name__}")
        return frame

    async def frames(self) -> AsyncIterator[ToWorker]:
        """Until the agent closes its end. Raises FrameError."""
        while (frame := await self._next()) is not None:
            yield frame

    def send(self, frame: ToAgent) -> None:
        """Never waits."""
        if isinstance(frame, StatsChanged):
            self._progress += 1
            self._stats = frame = replace(frame, progress=self._progress)
        if not self._writer.is_closing():
            self._writer.write(encode(frame))

    def close(self) -> None:
        """What was sent is still read by the agent."""
        self._alive.cancel()
        self._writer.close()

    def _say_alive(self) -> None:
        self.send(self._stats)
        loop = asyncio.get_running_loop()
        self._alive = loop.call_later(self._alive_interval_s, self._say_alive)

    async def _next(self) -> ToWorker | None:
        body = await read_body(self._reader)
        return None if body is None else decode_to_worker(body)
