"""Settings that change while endpoints live, or that could never work: no answer is cut short."""

import asyncio

import pytest

from services.gateway.api.schemas import ModelChange
from services.gateway.errors import InvalidRequest
from services.gateway.feasibility import check_kv_cache
from tests.support.waiting import eventually
from tests.unit.gateway.fakeworker import ANSWER, FakeWorker
from tests.unit.gateway.tiny import model_entry
from tests.unit.gateway.world import gateway_world

KV_BYTES_PER_TOKEN = 64  # of the tiny model


async def test_a_warm_endpoint_with_a_stale_context_is_passed_by() -> None:
    async with gateway_world() as world:
        world.worker.replies = ["stale_context"]
        world.scheduler.endpoint_ids = ["ep-2"]
        await FakeWorker(world.broker.bus(), "ep-2").start()
        await world.warm_route("ep-1")

        response = await world.chat()

        assert response.json()["choices"][0]["message"]["content"] == ANSWER
        assert world.scheduler.submissions[0].lost_endpoint_id is None


async def test_an_endpoint_with_a_stale_context_is_asked_again_until_it_is_replaced() -> None:
    async with gateway_world() as world:
        world.worker.replies = ["stale_context"] * 100
        asking = asyncio.create_task(world.chat())
        await eventually(lambda: len(world.worker.generated) >= 3)

        await FakeWorker(world.broker.bus(), "ep-2").start()
        world.scheduler.endpoint_ids = ["ep-2"]

        assert (await asking).json()["choices"][0]["message"]["content"] == ANSWER
        attempts = [message.attempt for message in world.worker.generated]
        assert attempts == list(range(1, len(attempts) + 1))


async def test_an_endpoint_with_a_stale_context_that_nobody_replaces_is_not_asked_for_ever() -> (
    None
):
    async with gateway_world() as world:
        world.worker.replies = ["stale_context"] * 100

        response = await world.chat()

        assert response.status_code == 503
        assert response.json()["error"]["code"] == "model_changed"
        assert response.headers["retry-after"] == "1"


async def test_a_small_kv_cache_shortens_the_context() -> None:
    entry = model_entry(kv_cache_bytes=30 * KV_BYTES_PER_TOKEN)
    async with gateway_world(entries=[entry]) as world:
        fits = await world.chat("x" * 4, max_tokens=3)
        too_long = await world.chat("x" * 20)

        assert fits.status_code == 200
        assert too_long.json()["error"]["code"] == "context_length_exceeded"
        assert "maximum context length is 31 tokens" in too_long.json()["error"]["message"]


async def test_a_kv_cache_that_holds_nothing_is_told_before_anything_starts() -> None:
    async with gateway_world(entries=[model_entry(kv_cache_bytes=1)]) as world:
        response = await world.chat()

        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (422, "model_failed")
        assert "kv_cache_bytes" in error["message"] and "1024 at least" in error["message"]
        assert world.scheduler.submissions == []


@pytest.mark.parametrize("kv_cache_bytes", [-1, 0, 1.5, 2**50 + 1])
async def test_a_senseless_kv_cache_is_refused_when_it_is_set(kv_cache_bytes: float) -> None:
    async with gateway_world() as world:
        setting = {"kv_cache_bytes": kv_cache_bytes}
        new = {"name": "new", "source": "/models/new", **setting}

        changed = await world.client.patch("/api/v1/models/tiny", json=setting)
        registered = await world.client.post("/api/v1/models", json=new)

    for response in (changed, registered):
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (400, "kv_cache_bytes")


def test_a_kv_cache_that_a_larger_cluster_could_hold_can_be_set() -> None:
    assert ModelChange(kv_cache_bytes=10**12).columns() == {"kv_cache_bytes": 10**12}


@pytest.mark.parametrize("kv_cache_bytes", [None, 1024, 2**40])
def test_a_kv_cache_of_sixteen_tokens_is_possible(kv_cache_bytes: int | None) -> None:
    check_kv_cache(model_entry(kv_cache_bytes=kv_cache_bytes))


def test_nobody_can_tell_before_the_import() -> None:
    check_kv_cache(model_entry(kv_cache_bytes=1, summary=None))
    with pytest.raises(InvalidRequest):
        check_kv_cache(model_entry(kv_cache_bytes=1))
