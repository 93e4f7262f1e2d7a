"""One client's connection: uvicorn's, with deadlines for what a client could leave undone.

uvicorn itself waits for ever for the rest of a request's header, and for a client to read the rest
of its answer. h11 bounds the size of a header, which uvicorn's faster parser does not.
"""

import asyncio
from http import HTTPStatus
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from libs.common.reasons import Reason
from services.gateway.errors import NotServed
from services.gateway.http.connection_limiter import ConnectionLimiter
from services.gateway.http.disconnect import CLOSE_CONNECTION
from services.gateway.openai.errors import error_body
from services.gateway.settings import Timing


class ConnectionConfig(uvicorn.Config):
    """What uvicorn hands to every connection; here with the limiter that counts it."""

    def __init__(
        self, app: FastAPI, limiter: ConnectionLimiter, timing: Timing, **options: Any
    ) -> None:
        super().__init__(app, http=Connection, ws="none", **options)
        self.limiter, self.timing = limiter, timing


class Connection(H11Protocol):
    """Counted by the limiter; closed when a header or a reader keeps us waiting for too long."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        assert isinstance(config, ConnectionConfig)
        super().__init__(
            config, server_state, {**app_state, CLOSE_CONNECTION: self.close_now}, _loop
        )
        self._limiter, self._timing = config.limiter, config.timing
        self._header_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._full_timer: asyncio.TimerHandle | None = None

    @property
    def _is_at_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def close_now(self) -> None:
        """Whatever is unsent."""
        self.transport.abort()

    # ------------------------------------------------------------ what the loop tells

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        if self._limiter.admit(self):
            self._await_header()
        else:
            transport.write(_limit_response())
            transport.close()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_at_work:
            _cancel(self._header_timer)
            self._header_timer = None
            self._limiter.mark_busy(self)
        elif self._header_timer is None:
            self._await_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._limiter.remove(self)
        for timer in (self._header_timer, self._unread_timer, self._full_timer):
            _cancel(timer)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Whoever sends waits from here on. Streams give up of themselves, sooner."""
        super().pause_writing()
        self._full_timer = self.loop.call_later(2 * self._timing.slow_client_s, self.close_now)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._full_timer)

    # ------------------------------------------------------------ what uvicorn tells

    def on_response_complete(self) -> None:
        super().on_response_complete()  # a request that waited in the pipeline begins here
        if not self._is_at_work:
            self._limiter.mark_idle(self)
        self._await_reader()

    # ------------------------------------------------------------ deadlines

    def _await_header(self) -> None:
        self._header_timer = self.loop.call_later(self._timing.header_s, self.close_now)

    def _await_reader(self) -> None:
        """Closing waits for unread bytes, so somebody has to give them up."""
        _cancel(self._unread_timer)
        num_unread = self.transport.get_write_buffer_size()
        if num_unread > 0:
            self._unread_timer = self.loop.call_later(
                self._timing.slow_client_s, self._end_if_unread, num_unread
            )

    def _end_if_unread(self, num_unread_before: int) -> None:
        if self._is_at_work:
            return  # the next answer's end looks again
        if self.transport.get_write_buffer_size() >= num_unread_before:
            self.close_now()
        else:
            self._await_reader()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _limit_response() -> bytes:
    message = "this gateway has as many connections as it may, try again"
    error = NotServed(message, Reason.GATEWAY_FULL)
    status, body = HTTPStatus(error.status), error_body(error).encoded()
    lines = [f"HTTP/1.1 {status} {status.phrase}", "content-type: application/json"]
    lines += [f"{name.lower()}: {value}" for name, value in error.headers.items()]
    lines += ["connection: close", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body
