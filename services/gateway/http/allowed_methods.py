"""Which methods a path has: what a 405 answer names."""

from fastapi import Request
from starlette.routing import Match

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def allowed_methods(request: Request) -> str:
    """As the header `Allow` has them. Methods of one path are routes of their own, so each is
    tried; HEAD is answered wherever GET is."""
    allowed = [method for method in _METHODS if _has_route(request, method)]
    return ", ".join(["GET", "HEAD", *allowed[1:]] if "GET" in allowed else allowed)


def _has_route(request: Request, method: str) -> bool:
    scope = {**request.scope, "method": method}
    routes = request.app.router.routes
    return any(route.matches(scope)[0] is Match.FULL for route in routes)
