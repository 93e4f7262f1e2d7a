"""No tenant's requests hold everything of a gateway; what they held is free once they end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from libs.common.bus.messages import SubmitRefused
from libs.common.reasons import Reason
from services.gateway.auth import hash_key
from services.gateway.settings import Limits
from services.gateway.store.keys import KeyInfo
from tests.support.waiting import eventually
from tests.unit.gateway.tiny import NOW, model_entry
from tests.unit.gateway.world import GatewayWorld, gateway_world, text_of

OTHER = {"Authorization": "Bearer hs-other-key"}


@asynccontextmanager
async def two_tenants(limits: Limits) -> AsyncIterator[GatewayWorld]:
    entries = [model_entry(), model_entry(tenant="other", model_id="model-other")]
    async with gateway_world(limits=limits, entries=entries) as world:
        world.keys.known[hash_key("hs-other-key")] = KeyInfo("key-2", "other", "test", NOW)
        yield world


async def hold(world: GatewayWorld, num_requests: int) -> list["asyncio.Task[httpx.Response]"]:
    """Requests that wait for an endpoint."""
    world.scheduler.is_assigning = False
    tasks = [asyncio.create_task(world.chat()) for _ in range(num_requests)]
    await eventually(lambda: len(world.gateway.dispatcher.open_ids) == num_requests)
    return tasks


async def ask_as_other(world: GatewayWorld) -> httpx.Response:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
    return await world.client.post("/v1/chat/completions", json=body, headers=OTHER)


async def test_one_tenants_open_requests_leave_room_for_others() -> None:
    async with two_tenants(Limits(max_open_requests=4, num_template_processes=1)) as world:
        held = await hold(world, 2)

        refused = await world.chat()
        world.scheduler.is_assigning = True
        served = await ask_as_other(world)

        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "tenant_limit")
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["x-ratelimit-limit-requests"] == "2"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert refused.headers["x-ratelimit-reset-requests"] == "1s"
        assert served.status_code == 200
        await asyncio.gather(*held)
        assert text_of(await world.chat())


async def test_each_prompt_of_a_completion_counts_as_a_request() -> None:
    async with two_tenants(Limits(max_open_requests=6, num_template_processes=1)) as world:
        too_many = await world.complete(["a", "b", "c", "d"])
        enough = [await world.complete(["a", "b", "c"]) for _ in range(3)]

        assert (too_many.status_code, too_many.json()["error"]["code"]) == (429, "tenant_limit")
        assert [response.status_code for response in enough] == [200] * 3


async def test_one_tenants_prompts_leave_memory_for_others() -> None:
    limits = Limits(max_waiting_bytes=4_000, num_template_processes=1)
    async with two_tenants(limits) as world:
        world.scheduler.is_assigning = False
        large = asyncio.create_task(world.chat("x" * 600))
        await eventually(lambda: len(world.gateway.dispatcher.open_ids) == 1)

        refused = await world.chat("x" * 600)
        world.scheduler.is_assigning = True
        served = await ask_as_other(world)
        await large

        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "tenant_limit")
        assert served.status_code == 200
        assert (await world.chat("x" * 600)).status_code == 200


async def test_a_body_of_unknown_length_counts_as_it_comes() -> None:
    limits = Limits(max_waiting_bytes=4_000, num_template_processes=1)
    async with two_tenants(limits) as world:
        [held] = await hold(world, 1)

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield b" " * 100

        refused = await world.client.post(
            "/v1/chat/completions", content=chunks(), headers={"Content-Type": "application/json"}
        )
        held.cancel()

        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "tenant_limit")


async def test_what_ended_requests_held_is_free_again() -> None:
    async with two_tenants(Limits(num_template_processes=1)) as world:
        await world.chat()
        await world.chat(model="nope")
        await world.client.post("/v1/chat/completions", content=b"no json")

        limits = world.gateway.tenant_limits
        assert (limits.open_requests.held_by_all, limits.waiting_bytes.held_by_all) == (0, 0)
        assert not limits.open_requests.held and not limits.waiting_bytes.held


async def test_reading_is_not_limited() -> None:
    async with two_tenants(Limits(max_open_requests=2, num_template_processes=1)) as world:
        [held] = await hold(world, 1)

        assert (await world.client.get("/v1/models")).status_code == 200
        held.cancel()


async def test_a_tenant_with_too_many_queued_requests_is_told_its_limit() -> None:
    async with gateway_world() as world:
        world.scheduler.refusal = SubmitRefused(
            code=Reason.TENANT_LIMIT, message="7 wait", retry_after_s=5, limit=7
        )

        refused = await world.chat()

        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "tenant_limit")
        assert refused.headers["retry-after"] == "5"
        assert refused.headers["x-ratelimit-limit-requests"] == "7"
        assert refused.headers["x-ratelimit-reset-requests"] == "5s"
