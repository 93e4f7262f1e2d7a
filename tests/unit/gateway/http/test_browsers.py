"""What browsers and monitors ask besides GET and POST."""

import httpx
import pytest

from libs.common.errors import SettingsError
from libs.common.settings import Environment
from services.gateway.http.app import create_app
from services.gateway.settings import read_origins
from tests.unit.gateway.stores import KEY
from tests.unit.gateway.world import GatewayWorld, gateway_world

PAGE = "https://chat.example.org"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, x-stainless-lang",
}


def browser(world: GatewayWorld, *allowed: str) -> httpx.AsyncClient:
    app = create_app(world.gateway, 2**20, allowed)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tiny", "/healthz", "/api/v1/models"])
async def test_head_is_get_without_its_body(path: str) -> None:
    async with gateway_world() as world:
        whole, head = await world.client.get(path), await world.client.head(path)

        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == whole.headers["content-length"]


async def test_head_needs_a_key_where_get_does_and_is_counted_by_its_route() -> None:
    async with gateway_world() as world:
        refused = await world.client.head("/v1/models", headers={"Authorization": ""})
        await world.client.head("/v1/models")
        metrics = (await world.client.get("/metrics")).text

        assert refused.status_code == 401
        assert 'http_requests_total{route="/v1/models",status="200"} 1' in metrics


async def test_a_page_of_an_allowed_origin_may_ask() -> None:
    async with gateway_world() as world, browser(world, PAGE) as client:
        preflight = await client.options("/v1/chat/completions", headers=PREFLIGHT)
        answer = await client.get(
            "/v1/models", headers={"Origin": PAGE, "Authorization": f"Bearer {KEY}"}
        )

        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == PAGE
        assert "x-stainless-lang" in preflight.headers["access-control-allow-headers"]
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "X-Request-Id" in answer.headers["access-control-expose-headers"]


async def test_a_page_sees_why_its_key_was_refused() -> None:
    async with gateway_world() as world, browser(world, PAGE) as client:
        refused = await client.get("/v1/models", headers={"Origin": PAGE})

        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize("allowed", [(), ("https://other.example.org",)])
async def test_any_other_page_is_told_that_it_may_not(allowed: tuple[str, ...]) -> None:
    async with gateway_world() as world, browser(world, *allowed) as client:
        preflight = await client.options("/v1/chat/completions", headers=PREFLIGHT)
        answer = await client.get(
            "/v1/models", headers={"Origin": PAGE, "Authorization": f"Bearer {KEY}"}
        )

        assert preflight.status_code == 403
        assert preflight.json()["error"]["code"] == "origin_not_allowed"
        assert PAGE in preflight.json()["error"]["message"]
        assert "access-control-allow-origin" not in answer.headers


def test_origins_are_read_from_a_list() -> None:
    text = "https://a.example.org, http://localhost:3000"
    env = Environment({"HYDRA_GATEWAY_ALLOWED_ORIGINS": text})

    assert read_origins(env) == ("https://a.example.org", "http://localhost:3000")
    assert read_origins(Environment({})) == ()


@pytest.mark.parametrize("text", ["chat.example.org", "https://a.example.org/path", "https://"])
def test_what_is_no_origin_ends_the_start(text: str) -> None:
    with pytest.raises(SettingsError, match="ALLOWED_ORIGINS"):
        read_origins(Environment({"HYDRA_GATEWAY_ALLOWED_ORIGINS": text}))
