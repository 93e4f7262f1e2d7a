"""CORS: which web pages may use this server from a browser; by default none.

A browser asks before it sends a key to another origin (a preflight, which carries no key), and
shows a page only those answers that name its origin.
"""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from libs.common.reasons import REASON_HEADER
from services.gateway.errors import Forbidden
from services.gateway.openai.errors import error_response

_METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE")
_SHOWN_HEADERS = ("X-Request-Id", "X-Trace-Id", "Retry-After", "Link", REASON_HEADER)


class Cors(CORSMiddleware):
    """Keys travel in a header, never in cookies, so no credentials are ever allowed."""

    def __init__(self, app: ASGIApp, allowed_origins: tuple[str, ...]) -> None:
        super().__init__(
            app,
            allow_origins=allowed_origins,
            allow_methods=_METHODS,
            allow_headers=("*",),
            expose_headers=_SHOWN_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        origin = request_headers["origin"]
        if self.is_allowed_origin(origin):
            return super().preflight_response(request_headers)
        message = f"this server does not let web pages of {origin[:200]!r} use it from a browser"
        return error_response(Forbidden(message, code="origin_not_allowed", param="Origin"))
