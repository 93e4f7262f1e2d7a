"""The HTTP response of a stream: real status codes until the headers are out, frames afterwards."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from services.gateway.errors import ClientGone
from services.gateway.generation.dispatcher import Dispatcher
from services.gateway.generation.generation_group import GenerationGroup, run_all
from services.gateway.generation.job import Job
from services.gateway.generation.refusals import deadline_error, slow_client_error
from services.gateway.http.disconnect import (
    cancel_and_wait,
    close_connection,
    run_while_connected,
    wait_for_disconnect,
)
from services.gateway.openai.sse import CommentSeparator

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # a proxy that collects the stream would hide the progress
]
_START: Message = {"type": "http.response.start", "status": 200, "headers": _HEADERS}
_LAST_FRAME_S = 1.0  # for telling a client of an error, if it still reads at all


class StreamingAnswer(Response):
    """Runs the request itself, so that it ends when the connection does, for whatever reason.

    A client that stops reading stops `send`. Neither one frame of `slow_client_s` nor the answer's
    deadline may pass in it: then the connection is closed, and the request is over.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        jobs: Sequence[Job],
        make_frames: Callable[[GenerationGroup], AsyncGenerator[bytes, None]],
    ) -> None:
        super().__init__()
        self._dispatcher, self._jobs, self._make_frames = dispatcher, jobs, make_frames
        self._slow_client_s = dispatcher.timing.slow_client_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises ApiError as long as no header was sent."""
        async with run_all(self._dispatcher, self._jobs) as group:
            try:
                await run_while_connected(receive, group.opened())
            except ClientGone:
                return
            if not await self._send_frames(group, receive, send):
                close_connection(scope)

    async def _send_frames(self, group: GenerationGroup, receive: Receive, send: Send) -> bool:
        """Whether the client read it all, or left of itself."""
        sending = asyncio.create_task(self._send_all(group, send))
        watching = asyncio.create_task(wait_for_disconnect(receive))
        breaking = asyncio.create_task(group.until_broken())
        tasks = (sending, watching, breaking)
        left_s = group.remaining_s() + _LAST_FRAME_S
        try:
            await asyncio.wait(tasks, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if breaking.done() and not watching.done():
                await asyncio.wait((sending, watching), timeout=_LAST_FRAME_S)
            if watching.done() and not sending.done():
                await self._dispatcher.closing.take()
            if sending.done():
                return sending.result()
            if not watching.done() and not breaking.done():
                group.failed(deadline_error())
            return watching.done()
        finally:
            await cancel_and_wait(*tasks)

    async def _send_all(self, group: GenerationGroup, send: Send) -> bool:
        """Whether the client read it all in time."""
        frames, separator = self._make_frames(group), CommentSeparator()
        try:
            await self._send(send, _START)
            async with aclosing(frames):
                async for frame in frames:
                    if frame:
                        await self._send(send, _body(separator.separated(frame), more_body=True))
            await self._send(send, _body(b"", more_body=False))
        except _Unread:
            group.failed(slow_client_error(self._slow_client_s))
            return False
        return True

    async def _send(self, send: Send, message: Message) -> None:
        """Raises _Unread."""
        try:
            async with asyncio.timeout(self._slow_client_s):
                await send(message)
        except TimeoutError as exc:
            raise _Unread from exc


def _body(frame: bytes, *, more_body: bool) -> Message:
    return {"type": "http.response.body", "body": frame, "more_body": more_body}


class _Unread(Exception):
    """The client left a frame unread for too long."""
