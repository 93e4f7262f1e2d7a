"""Texts and numbers that JSON can say and nothing behind it can hold: 400 with a clear message."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from libs.common.records.database import create_engine
from libs.common.settings import DatabaseSettings
from services.gateway.text.validity import storable
from tests.unit.gateway.world import GatewayWorld, gateway_world

MODEL = {"name": "new", "source": "/models/x"}
HUGE = 10**20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_world() -> AsyncIterator[GatewayWorld]:
    """Its Postgres does not exist: what gets as far as that is 503."""
    async with gateway_world() as world:
        yield world


@pytest.mark.parametrize(
    ("method", "path", "body", "reason"),
    [
        ("GET", "/api/v1/cold-starts/%00", None, "NUL"),
        ("GET", "/api/v1/cold-starts?model=%00", None, "NUL"),
        ("GET", "/api/v1/requests/a%00b", None, "NUL"),
        ("DELETE", "/api/v1/api-keys/%00", None, "NUL"),
        ("POST", "/api/v1/api-keys", {"name": "a\x00b"}, "NUL"),
        ("POST", "/api/v1/api-keys", {"name": "a", "tenant": "\x00"}, "match"),
        ("POST", "/api/v1/models", {**MODEL, "source": "/a\x00b"}, "NUL"),
        ("POST", "/api/v1/models", {**MODEL, "max_context_tokens": HUGE}, "2147483647"),
        ("POST", "/api/v1/models", {**MODEL, "kv_cache_bytes": HUGE}, "1099511627776"),
        ("POST", "/api/v1/models", {**MODEL, "max_queue": HUGE}, "100000"),
        ("POST", "/api/v1/models", {**MODEL, "keep_alive_s": 10**400}, "keep_alive_s"),
        ("PATCH", "/api/v1/models/tiny", {"max_context_tokens": HUGE}, "2147483647"),
        ("PATCH", "/api/v1/models/tiny", {"kv_cache_bytes": -HUGE}, "kv_cache_bytes"),
        ("GET", f"/api/v1/cold-starts?limit={HUGE}", None, "200"),
        ("POST", "/v1/chat/completions", {"max_tokens": HUGE}, str(HUGE)),
        ("POST", "/v1/chat/completions", {"max_tokens": -HUGE}, "max_tokens"),
        ("POST", "/v1/chat/completions", {"seed": HUGE}, "seed"),
        ("POST", "/v1/chat/completions", {"temperature": 10**400}, "temperature"),
        ("POST", "/v1/chat/completions", {"top_logprobs": HUGE, "logprobs": True}, "20"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_it_is_the_clients_error_and_says_why(
    shared_world: GatewayWorld, method: str, path: str, body: dict[str, Any] | None, reason: str
) -> None:
    if path == "/v1/chat/completions":
        body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], **(body or {})}

    response = await shared_world.client.request(method, path, json=body)

    assert response.status_code == 400, response.text
    message = response.json()["error"]["message"]
    assert reason in message
    assert "Value error" not in message


@pytest.mark.parametrize(
    "body",
    [b'{"name": "a\\ud800"}', b'{"name": "a", "tenant": "\\udfff"}'],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_half_a_surrogate_pair_is_the_clients_error(
    shared_world: GatewayWorld, body: bytes
) -> None:
    response = await shared_world.client.post(
        "/api/v1/api-keys", content=body, headers={"Content-Type": "application/json"}
    )

    assert response.status_code == 400


async def test_a_lone_surrogate_is_an_error_of_the_client() -> None:
    async with gateway_world() as world:
        response = await world.client.post(
            "/v1/chat/completions",
            content=b'{"model":"tiny","messages":[{"role":"user","content":"\\ud800"}]}',
            headers={"Content-Type": "application/json"},
        )

        assert response.status_code == 400
        assert response.json()["error"]["param"] == "messages[0].content"


@pytest.mark.parametrize("name", ["%00", "a%00b"])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_model_whose_name_nobody_could_register_does_not_exist(
    shared_world: GatewayWorld, name: str
) -> None:
    assert (await shared_world.client.get(f"/api/v1/models/{name}")).status_code == 404
    assert (await shared_world.client.get(f"/v1/models/{name}")).status_code == 404


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"model": ', "Expecting value"),
        (b'{"model": "\xff"}', "UTF-8"),
        (b"[" * 20_000, "nested too deeply"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "too many digits"),
    ],
    ids=["cut", "not UTF-8", "deep", "a number of 5,000 digits"],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_body_that_is_not_json_is_told_what_is_wrong(
    shared_world: GatewayWorld, body: bytes, reason: str
) -> None:
    response = await shared_world.client.post(
        "/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
    )

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_json"
    assert reason in response.json()["error"]["message"]


@pytest.mark.asyncio(loop_scope="module")
async def test_five_stop_strings_are_counted_and_not_taken_for_one(
    shared_world: GatewayWorld,
) -> None:
    error = (await shared_world.chat(stop=list("abcde"))).json()["error"]

    assert error["param"] == "stop"
    assert "at most 4 items" in error["message"]


def test_other_peoples_words_are_made_storable() -> None:
    assert storable("out of \x00 memory \ud800!") == "out of  memory �!"


def test_a_database_error_does_not_show_its_parameters() -> None:
    engine = create_engine(DatabaseSettings("postgresql://nobody@127.0.0.1:1/none", "none"))

    assert engine.sync_engine.hide_parameters
