"""Checks a request before any route sees it: its key, its tenant's limits, its type and size."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.auth import Caller
from services.gateway.errors import (
    ApiError,
    InvalidRequest,
    PayloadTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)
from services.gateway.http.body_pace import BodyPace
from services.gateway.http.json_cost import COST_OF_NAME, COST_OF_OBJECT, JsonCost
from services.gateway.openai.errors import error_response
from services.gateway.tenant_limits import HeldByRequest, TenantLimits

BODY_TIMEOUT_S = 60.0
MAX_JSON_UNITS = 2**18  # some 20 ms of parsing, and as many token ids
_GUARDED = ("/v1/", "/api/")
_WITH_BODY = ("POST", "PUT", "PATCH")


class CallerCheck(Protocol):
    async def authenticate(self, authorization: str | None, address: str) -> Caller:
        """Of a client with this address. Raises ApiError."""


class RequestGuard:
    """Middleware. The key is checked first: without one the body is never read."""

    def __init__(
        self,
        app: ASGIApp,
        authenticator: CallerCheck,
        tenant_limits: TenantLimits,
        body_pace: BodyPace,
        max_body_bytes: int,
    ) -> None:
        self._app, self._authenticator = app, authenticator
        self._tenant_limits, self._body_pace = tenant_limits, body_pace
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_GUARDED):
            await self._app(scope, receive, send)
            return
        with ExitStack() as open_request:
            try:
                receive = await self._checked(scope, receive, open_request)
            except ApiError as exc:
                await error_response(exc)(scope, receive, send)
                return
            await self._app(scope, receive, send)

    async def _checked(self, scope: Scope, receive: Receive, open_request: ExitStack) -> Receive:
        """Raises ApiError. A request with a body is counted until `open_request` ends."""
        headers = Headers(scope=scope)
        address, _ = scope.get("client") or ("", 0)
        caller = await self._authenticator.authenticate(headers.get("authorization"), address)
        scope["state"]["caller"] = caller
        if scope["method"] not in _WITH_BODY:
            return receive
        held = open_request.enter_context(self._tenant_limits.admitted(caller.tenant))
        scope["state"]["held"] = held
        return await self._checked_body(headers, receive, held, caller.tenant)

    async def _checked_body(
        self, headers: Headers, receive: Receive, held: HeldByRequest, tenant: str
    ) -> Receive:
        """The body, read whole and bounded, to be received again. Raises ApiError."""
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            message = "the body must be JSON: Content-Type: application/json"
            raise UnsupportedMediaType(message, code="unsupported_media_type")
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self._max_body_bytes:
            raise self._too_large()
        held.hold_body(int(declared) if declared.isdigit() else 0)
        try:
            return _replayed(await self._read(receive, held, tenant), receive)
        except TimeoutError as exc:
            message = f"the body did not arrive within {BODY_TIMEOUT_S:g} s"
            raise RequestTimeout(message, code="request_timeout") from exc

    async def _read(self, receive: Receive, held: HeldByRequest, tenant: str) -> bytes:
        """Its client has BODY_TIMEOUT_S to send it; that we read slowly is not the client's time.

        Raises TimeoutError, ApiError.
        """
        body, cost, timer = bytearray(), JsonCost(), _Timer(BODY_TIMEOUT_S)
        while True:
            async with timer.running():
                part = await receive()
            if part["type"] == "http.disconnect":
                raise InvalidRequest("the body ended early", code="invalid_json")
            body += part.get("body", b"")
            cost.feed(part.get("body", b""))
            if len(body) > self._max_body_bytes:
                raise self._too_large()
            _check_cost(cost)
            held.hold_body(len(body))
            await self._body_pace.read(tenant, len(part.get("body", b"")))
            if not part.get("more_body", False):
                return bytes(body)

    def _too_large(self) -> ApiError:
        message = f"the body is larger than {self._max_body_bytes} bytes"
        return PayloadTooLarge(message, code="payload_too_large")


class _Timer:
    """A timeout for several waits together, which counts while it is running."""

    def __init__(self, timeout_s: float) -> None:
        self._left_s = timeout_s

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Raises TimeoutError."""
        began_s = asyncio.get_running_loop().time()
        async with asyncio.timeout(self._left_s):
            yield
        self._left_s -= asyncio.get_running_loop().time() - began_s


def _check_cost(cost: JsonCost) -> None:
    """Raises ApiError."""
    if cost.has_nul:
        raise InvalidRequest("the body is not JSON: it is not UTF-8", code="invalid_json")
    if cost.units > MAX_JSON_UNITS:
        message = (
            f"the body has too many values: the limit is {MAX_JSON_UNITS}, where an object or a "
            f"list counts {COST_OF_OBJECT} times and a name {COST_OF_NAME} times"
        )
        raise PayloadTooLarge(message, code="payload_too_large")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Once it was received nobody here holds it: a request lives much longer."""
    left = [body]

    async def again() -> Message:
        if not left:
            return await receive()
        return {"type": "http.request", "body": left.pop(), "more_body": False}

    return again
