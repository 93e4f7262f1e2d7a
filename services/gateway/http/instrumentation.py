"""The outermost layer of HTTP: request id, span, metrics, and an answer whatever goes wrong."""

import logging
import time

from opentelemetry.trace import Span, SpanKind
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common.ids import new_id
from libs.common.observability import telemetry
from services.gateway.errors import ApiError
from services.gateway.metrics.metrics import Metrics
from services.gateway.openai.errors import as_api_error, error_response

logger = logging.getLogger(__name__)


class Instrumentation:
    """Middleware. A caller's traceparent is continued; the trace id comes back as X-Trace-Id."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = time.monotonic()
        request_id = new_id("req")
        scope.setdefault("state", {}).update(request_id=request_id, arrived_s=began_s)
        with (
            telemetry.remote_context(_trace_headers(scope)),
            telemetry.tracer.start_as_current_span(scope["method"], kind=SpanKind.SERVER) as span,
        ):
            span.set_attribute("hydra.request_id", request_id)
            exchange = _Exchange(send, request_id, span)
            await self._answer(scope, receive, exchange)
            span.update_name(f"{scope['method']} {_route(scope)}")
        self._count(scope, exchange, time.monotonic() - began_s)

    async def _answer(self, scope: Scope, receive: Receive, exchange: "_Exchange") -> None:
        """Headers may be out when something breaks; then only closing the connection is left."""
        try:
            await self._app(scope, receive, exchange.send)
        except Exception as exc:
            error = as_api_error(exc)
            telemetry.fail_span(exchange.span, error.message)
            if exchange.status is None:
                await error_response(error)(scope, receive, exchange.send)
            elif not isinstance(exc, ApiError):
                raise

    def _count(self, scope: Scope, exchange: "_Exchange", elapsed_s: float) -> None:
        route = _route(scope)
        status = "gone" if exchange.status is None else str(exchange.status)
        self._metrics.http_requests.add((route, status))
        self._metrics.http_seconds.observe((route,), elapsed_s)


class _Exchange:
    """Sees the response go by and adds the headers that every response has."""

    def __init__(self, send: Send, request_id: str, span: Span) -> None:
        self._send, self._request_id, self.span = send, request_id, span
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.span.set_attribute("http.response.status_code", message["status"])
            message = {**message, "headers": [*message.get("headers", ()), *self._headers()]}
        await self._send(message)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-request-id", self._request_id.encode())]
        context = self.span.get_span_context()
        if context.is_valid:
            headers.append((b"x-trace-id", f"{context.trace_id:032x}".encode()))
        return headers


def _route(scope: Scope) -> str:
    """The route's pattern, never the path: no caller may make up label values."""
    path: str = getattr(scope.get("route"), "path", "none")
    return path


def _trace_headers(scope: Scope) -> dict[str, str]:
    headers = Headers(scope=scope)
    return {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
