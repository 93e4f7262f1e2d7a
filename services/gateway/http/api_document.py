"""The OpenAPI document: FastAPI's, completed with every status and header that may come. Pure.

FastAPI knows what a route returns. What is refused before, under way and by the layers around the
routes comes from the table of reasons, so a new reason is in the document by itself.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from fastapi import FastAPI

from libs.common.reasons import REASON_HEADER, ClientRetry, Reason
from services.gateway.openai.responses import ErrorBody

Json = dict[str, Any]

COMPLETIONS = ("/v1/chat/completions", "/v1/completions")
_HEALTH = ("/readyz", "/health", "/ping")
_EVERYWHERE = {Reason.METHOD_NOT_ALLOWED, Reason.GATEWAY_FULL, Reason.INTERNAL_ERROR}
_WITH_KEY = {Reason.INVALID_API_KEY, Reason.INVALID_REQUEST, Reason.DATABASE_UNAVAILABLE}
_WITH_BODY = {
    Reason.REQUEST_TIMEOUT,
    Reason.PAYLOAD_TOO_LARGE,
    Reason.UNSUPPORTED_MEDIA_TYPE,
    Reason.TENANT_LIMIT,
}
_NOT_OF_COMPLETIONS = {Reason.FORBIDDEN, Reason.CONFLICT, Reason.NOT_FOUND}

_RATE_LIMIT_HEADERS = tuple(
    f"x-ratelimit-{which}-requests" for which in ("limit", "remaining", "reset")
)
_HEADERS = {
    "X-Request-Id": "Names the request, in logs and for `GET /api/v1/requests/{request_id}`",
    "X-Trace-Id": "Of the trace that the request belongs to, where there is one",
    REASON_HEADER: "Why, by the name of the table in docs/errors.md",
    "Retry-After": "Seconds until it is worth coming again",
    "X-Should-Retry": "`false`: it would fail again",
    "Allow": "The methods that the path has",
} | {name: "Of the limit that was reached" for name in _RATE_LIMIT_HEADERS}


def install_document(app: FastAPI) -> None:
    make = app.openapi
    app.openapi = lambda: completed(make())  # type: ignore[method-assign]  # FastAPI's own way


def completed(document: Json) -> Json:
    """The same document. Completing it twice changes nothing."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    own = ErrorBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= own.pop("$defs", {}) | {"ErrorBody": own}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(operation["responses"], reasons_of(path, method))
            if path in _HEALTH:
                operation["responses"]["503"] = _response("Not ready, for these reasons", ())
    return document


def reasons_of(path: str, method: str) -> set[Reason]:
    """Of the errors that may come instead of the answer. The path is the route's pattern."""
    if path in COMPLETIONS:
        return set(Reason) - _NOT_OF_COMPLETIONS
    if not path.startswith(("/v1/", "/api/")):
        return _EVERYWHERE
    reasons = _EVERYWHERE | _WITH_KEY
    if method in ("post", "patch", "put"):
        reasons = reasons | _WITH_BODY
    if "{name}" in path:
        reasons = reasons | {Reason.MODEL_NOT_FOUND}
    if "_id}" in path:
        reasons = reasons | {Reason.NOT_FOUND}
    if path.startswith("/api/v1/models") and method in ("post", "patch"):
        reasons = reasons | {Reason.CONFLICT}
    if path.endswith("/preload"):
        reasons = reasons | {Reason.MODEL_NOT_READY, Reason.MODEL_FAILED}
    if path.startswith("/api/v1/api-keys"):
        reasons = reasons | {Reason.FORBIDDEN}
    return reasons


def _complete(responses: Json, reasons: set[Reason]) -> None:
    responses.pop("422", None)  # FastAPI's own way of refusing, which is not ours
    for response in responses.values():
        response.setdefault("headers", {}).update(_headers("X-Request-Id", "X-Trace-Id"))
    ordered = sorted(reasons, key=lambda reason: (reason.row.status, reason.value))
    for status, group in groupby(ordered, key=lambda reason: reason.row.status):
        responses[str(status)] = _error_response(tuple(group))


def _error_response(reasons: tuple[Reason, ...]) -> Json:
    meanings = "\n".join(f"- `{reason.value}`: {reason.row.meaning}" for reason in reasons)
    response = _response(meanings, _headers_of(reasons))
    schema = {"$ref": "#/components/schemas/ErrorBody"}
    return {**response, "content": {"application/json": {"schema": schema}}}


def _headers_of(reasons: tuple[Reason, ...]) -> list[str]:
    names = [REASON_HEADER]
    if any(reason.row.retry_after is not None for reason in reasons):
        names.append("Retry-After")
    if any(reason.row.retry is ClientRetry.NEVER for reason in reasons):
        names.append("X-Should-Retry")
    if Reason.METHOD_NOT_ALLOWED in reasons:
        names.append("Allow")
    return names + (list(_RATE_LIMIT_HEADERS) if Reason.TENANT_LIMIT in reasons else [])


def _response(description: str, headers: Iterable[str]) -> Json:
    return {
        "description": description,
        "headers": _headers("X-Request-Id", "X-Trace-Id", *headers),
    }


def _headers(*names: str) -> Json:
    return {name: {"description": _HEADERS[name], "schema": {"type": "string"}} for name in names}
