"""Every error of every route as OpenAI's clients expect it: a JSON body and a real status."""

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from libs.common.errors import DatabaseUnavailable
from libs.common.reasons import Reason
from services.gateway.errors import (
    ApiError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    NotServed,
    TokenizerFailed,
)
from services.gateway.http.allowed_methods import allowed_methods
from services.gateway.openai.responses import ErrorBody, ErrorDetail

logger = logging.getLogger(__name__)


def error_body(error: ApiError) -> ErrorBody:
    return ErrorBody(
        error=ErrorDetail(
            message=error.message,
            type=error.kind,
            param=error.param,
            code=error.code,
            reason=error.reason.value,
        )
    )


def error_response(error: ApiError) -> Response:
    return Response(
        error_body(error).encoded(),
        status_code=error.status,
        headers=error.headers,
        media_type="application/json",
    )


def as_api_error(exc: Exception) -> ApiError:
    """The one place where foreign errors become ours; what is not known is a bug, and logged."""
    if isinstance(exc, ApiError):
        return exc
    if isinstance(exc, DatabaseUnavailable):
        message = "the database cannot be reached now"
        return NotServed(message, Reason.DATABASE_UNAVAILABLE)
    if isinstance(exc, TokenizerFailed):
        return NotServed(f"the model's tokenizer failed: {exc}", Reason.TOKENIZER_FAILED)
    logger.error("a request failed", exc_info=exc)
    message = "an error of this server; its log has the cause"
    return NotServed(message, Reason.INTERNAL_ERROR)


def install_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    for kind in (ApiError, DatabaseUnavailable, TokenizerFailed):
        app.add_exception_handler(kind, _on_error)


async def _on_error(_request: Request, exc: Exception) -> Response:
    return error_response(as_api_error(exc))


async def _on_validation_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    return error_response(validation_error(exc.errors()))


async def _on_http_exception(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    if exc.status_code == 404:
        return error_response(NotFound("there is no such path", code="not_found"))
    if exc.status_code == 400 and exc.__cause__ is not None:  # as FastAPI wraps json's own
        return error_response(_not_json(_json_problem(exc.__cause__)))
    if exc.status_code == 405:
        return error_response(_method_error(request))
    return error_response(InvalidRequest(str(exc.detail), code="invalid_request"))


def _method_error(request: Request) -> MethodNotAllowed:
    allowed = allowed_methods(request)
    return MethodNotAllowed(f"this path does not know {request.method}: {allowed}", allowed=allowed)


def validation_error(problems: Sequence[Any]) -> InvalidRequest:
    """The most telling of pydantic's findings."""
    first = max(problems, key=_tells)
    if first["type"] == "json_invalid":
        return _not_json(first.get("ctx", {}).get("error", ""))
    param = _param(first["loc"])
    if first["type"] == "missing":
        message = f"missing required parameter: {param!r}" if param else "a JSON body is required"
        return InvalidRequest(message, code="missing_required_parameter", param=param)
    reason = first["msg"].removeprefix("Value error, ")
    text = f"invalid value for {param!r}: {reason}" if param else reason
    return InvalidRequest(text, code="invalid_value", param=param)


def _tells(problem: Any) -> tuple[int, bool]:
    """Of alternatives the one that came furthest, and rather one whose type was right."""
    return len(problem["loc"]), not problem["type"].endswith("_type")


def _not_json(reason: str) -> InvalidRequest:
    return InvalidRequest(f"the body is not JSON: {reason}", code="invalid_json")


def _json_problem(exc: BaseException) -> str:
    if isinstance(exc, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(exc, RecursionError):
        return "it is nested too deeply"
    if isinstance(exc, ValueError):
        return "a number in it has too many digits"
    logger.warning("a body could not be parsed", exc_info=exc)
    return "it cannot be parsed"


def _param(location: Sequence[Any]) -> str | None:
    """`('body', 'messages', 0, 'content', 'str')` to `messages[0].content`."""
    path = ""
    for part in location[1:]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier() and part not in ("str", "int", "float", "bool", "TextPart"):
            path += f".{part}" if path else part
    return path or None
