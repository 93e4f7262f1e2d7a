"""The OpenAPI document holds every status that occurs, and 405 says what is allowed.

Beside this, `world.py` compares every answer that any of its tests gets with the document.
"""

from typing import Any

import pytest

from libs.common.reasons import Reason
from services.gateway.errors import MethodNotAllowed, NotServed, TenantLimited
from tests.unit.gateway.documented import api_document
from tests.unit.gateway.world import gateway_world

CHAT = "/v1/chat/completions"


async def responses_of(path: str, method: str) -> dict[str, Any]:
    async with gateway_world() as world:
        found: dict[str, Any] = api_document(world.app)["paths"][path][method]["responses"]
        return found


async def test_every_reason_of_the_table_is_documented_with_its_status() -> None:
    async with gateway_world() as world:
        paths = api_document(world.app)["paths"]
    answers = [
        (status, answer["description"])
        for operations in paths.values()
        for operation in operations.values()
        for status, answer in operation["responses"].items()
    ]

    for reason in Reason:
        told = [text for status, text in answers if status == str(reason.row.status)]
        assert any(f"`{reason.value}`" in text for text in told), reason


@pytest.mark.parametrize(
    "error",
    [
        *(NotServed("no", reason) for reason in Reason),
        MethodNotAllowed("no", allowed="GET"),
        TenantLimited("no", limit=1, retry_after_s=1),
    ],
    ids=lambda error: error.reason.value,
)
async def test_every_header_of_an_error_is_documented(error: Any) -> None:
    if error.reason in (Reason.FORBIDDEN, Reason.NOT_FOUND, Reason.CONFLICT):
        return  # not of completions
    answer = (await responses_of(CHAT, "post"))[str(error.status)]

    assert {name.lower() for name in error.headers} <= {name.lower() for name in answer["headers"]}


async def test_a_stream_is_documented_beside_the_json() -> None:
    content = (await responses_of(CHAT, "post"))["200"]["content"]

    assert set(content) == {"application/json", "text/event-stream"}


async def test_metrics_are_documented_as_text() -> None:
    assert set((await responses_of("/metrics", "get"))["200"]["content"]) == {"text/plain"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, "POST"),
        ("PUT", "/api/v1/models", "GET, HEAD, POST"),
        ("POST", "/api/v1/models/a/b", "GET, HEAD, PATCH, DELETE"),
        ("DELETE", "/ping", "GET, HEAD, POST"),
        ("POST", "/v1/models", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_which_ones_the_path_has(
    method: str, path: str, allowed: str
) -> None:
    async with gateway_world() as world:
        response = await world.client.request(method, path, json={})

        assert (response.status_code, response.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/health"), ("GET", "/ping"), ("POST", "/ping"), ("HEAD", "/ping")]
)
async def test_others_names_of_readiness_answer_as_it_does_without_a_key(
    method: str, path: str
) -> None:
    async with gateway_world() as world:
        del world.client.headers["Authorization"]
        ready = await world.client.request(method, path)
        world.gateway.dispatcher.is_draining = True
        draining = await world.client.request(method, path)

        assert (ready.status_code, draining.status_code) == (200, 503)


async def test_the_version_is_told_without_a_key() -> None:
    async with gateway_world() as world:
        del world.client.headers["Authorization"]
        response = await world.client.get("/version")

        assert response.status_code == 200
        assert response.json()["version"]
