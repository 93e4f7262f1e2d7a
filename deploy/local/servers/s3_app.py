"""The S3 server's application: nanio, plus the one thing it lacks, keys that may only read."""

import os

from nanio.app import build_app as build_nanio  # type: ignore[import-untyped]  # ships no types
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

READ_ONLY_KEYS_VARIABLE = "HYDRA_S3_READ_ONLY_KEYS"
_READING_METHODS = frozenset({"GET", "HEAD"})
_ACCESS_DENIED = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>AccessDenied</Code><Message>This key may only read</Message></Error>"
)


class ReadOnlyKeys:
    """ASGI middleware behind nanio's, which has verified the signature and named its key."""

    def __init__(self, app: ASGIApp, keys: frozenset[str]) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_write = scope["type"] == "http" and scope["method"] not in _READING_METHODS
        if is_write and scope["nanio.principal"] in self._keys:
            await _deny(send)
        else:
            await self._app(scope, receive, send)


def build_app() -> ASGIApp:
    """uvicorn's factory; nanio reads its own NANIO_* variables."""
    keys = frozenset(filter(None, os.environ.get(READ_ONLY_KEYS_VARIABLE, "").split(",")))
    app: Starlette = build_nanio()
    app.user_middleware.append(Middleware(ReadOnlyKeys, keys=keys))
    return app


async def _deny(send: Send) -> None:
    headers = [(b"content-type", b"application/xml"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": _ACCESS_DENIED})
