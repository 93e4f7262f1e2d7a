"""Lists of models in pages, and what they are while Postgres is away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libs.common.states import ModelState
from services.gateway.registry.known_model import ENTRY_BYTES
from services.gateway.settings import Limits
from tests.unit.gateway.tiny import model_entry
from tests.unit.gateway.world import GatewayWorld, gateway_world

NAMES = [f"m{i:03}" for i in range(250)]


@asynccontextmanager
async def many_models(num_known: int = 1000) -> AsyncIterator[GatewayWorld]:
    limits = Limits(num_template_processes=1, max_cached_model_bytes=num_known * ENTRY_BYTES)
    entries = [model_entry(name) for name in NAMES]
    others = [
        model_entry("failed", state=ModelState.FAILED, summary=None),
        model_entry("theirs", tenant="other"),
    ]
    async with gateway_world(limits=limits, entries=entries + others) as world:
        yield world


async def test_a_list_is_told_in_pages_each_of_which_names_the_next() -> None:
    async with many_models() as world:
        names, sizes, address = [], [], "/api/v1/models?limit=100"
        while address:
            response = await world.client.get(address)
            page = [model["name"] for model in response.json()]
            names += page
            sizes.append(len(page))
            address = response.links.get("next", {}).get("url", "")

    assert names == ["failed", *NAMES]
    assert sizes == [100, 100, 51]


async def test_a_list_without_a_limit_is_bounded() -> None:
    async with many_models() as world:
        response = await world.client.get("/api/v1/models")

    assert len(response.json()) == 200
    assert response.links["next"]["url"] == f"/api/v1/models?after={NAMES[198]}&limit=200"


async def test_openais_list_says_whether_there_are_more() -> None:
    async with many_models() as world:
        whole = (await world.client.get("/v1/models")).json()
        part = (await world.client.get("/v1/models?after=m003&limit=2")).json()

    assert [model["id"] for model in whole["data"]] == NAMES and whole["has_more"] is False
    assert [model["id"] for model in part["data"]] == ["m004", "m005"] and part["has_more"] is True
    assert part["data"][0]["owned_by"] == "acme"


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=a%00b"])
async def test_a_senseless_page_is_refused(query: str) -> None:
    async with gateway_world() as world:
        response = await world.client.get(f"/api/v1/models?{query}")

    assert response.status_code == 400
    assert response.json()["error"]["param"] == query.partition("=")[0]


@pytest.mark.parametrize("path", ["/v1/models", "/api/v1/models"])
async def test_while_postgres_is_away_a_gateway_that_knows_all_models_lists_them(
    path: str,
) -> None:
    async with many_models() as world:
        before = (await world.client.get(path)).json()
        world.models.is_down = True

        assert (await world.client.get(path)).json() == before


@pytest.mark.parametrize("path", ["/v1/models", "/api/v1/models"])
async def test_while_postgres_is_away_a_gateway_that_may_lack_models_says_so(path: str) -> None:
    async with many_models(num_known=10) as world:
        world.models.is_down = True
        response = await world.client.get(path)

    assert response.status_code == 503
    assert response.headers["x-hydra-reason"] == "database_unavailable"
