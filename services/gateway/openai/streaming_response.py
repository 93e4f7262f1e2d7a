"""The HTTP response of a stream: real status codes until the headers are out, frames afterwards."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.gateway.errors import ClientGone
from services.gateway.generation.dispatcher import Dispatcher
from services.gateway.generation.generation import Generation
from services.gateway.generation.job import Job
from services.gateway.http_disconnect import cancelled, unless_gone, until_disconnected

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # a proxy that collects the stream would hide the progress
]
_LAST_FRAME_S = 1.0  # for telling a client of an error, if it still reads at all


class StreamingAnswer(Response):
    """Runs the request itself, so that it ends when the connection does, for whatever reason."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        job: Job,
        make_frames: Callable[[Generation], AsyncGenerator[bytes, None]],
    ) -> None:
        super().__init__()
        self._dispatcher, self._job, self._make_frames = dispatcher, job, make_frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises ApiError as long as no header was sent."""
        async with self._dispatcher.run(self._job) as generation:
            try:
                await unless_gone(receive, generation.opened())
            except ClientGone:
                return
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await self._send_frames(generation, receive, send)

    async def _send_frames(self, generation: Generation, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send_all(generation, send))
        watching = asyncio.create_task(until_disconnected(receive))
        breaking = asyncio.create_task(generation.until_broken())
        try:
            await asyncio.wait((sending, watching, breaking), return_when=asyncio.FIRST_COMPLETED)
            if breaking.done() and not watching.done():
                await asyncio.wait((sending, watching), timeout=_LAST_FRAME_S)
            if sending.done():
                sending.result()
        finally:
            await cancelled(sending, watching, breaking)

    async def _send_all(self, generation: Generation, send: Send) -> None:
        frames = self._make_frames(generation)
        async with aclosing(frames):
            async for frame in frames:
                if frame:
                    await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
