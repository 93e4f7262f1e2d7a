"""Compares answers with the OpenAPI document."""

import re
from typing import Any

import httpx
from fastapi import FastAPI

_OF_ALL = {"content-type", "content-length", "cache-control", "x-accel-buffering", "vary"}
_documents: list[dict[str, Any]] = []  # one for all tests: the routes are the same


def api_document(app: FastAPI) -> dict[str, Any]:
    if not _documents:
        _documents.append(app.openapi())
    return _documents[0]


def undocumented(document: dict[str, Any], response: httpx.Response) -> list[str]:
    """The status, or the headers of an error, that the document does not have for the path."""
    request, status = response.request, str(response.status_code)
    operations = _operations(document, request.url.path)
    if operations is None or request.method == "OPTIONS":
        return []
    method = {"HEAD": "get"}.get(request.method, request.method.lower())
    operation = operations.get(method) or next(iter(operations.values()))  # of a 405
    if status not in operation["responses"]:
        return [f"{request.method} {request.url.path}: {status}"]
    if response.status_code < 400:
        return []
    known = {name.lower() for name in operation["responses"][status]["headers"]}
    return sorted({name for name in response.headers if name not in known | _OF_ALL})


def _operations(document: dict[str, Any], path: str) -> Any:
    for template, operations in document["paths"].items():
        pattern = re.sub(r"\\\{name\\\}", ".+", re.escape(template))
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", pattern), path):
            return operations
    return None
