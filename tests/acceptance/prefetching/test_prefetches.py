"""Weights of a model that is likely to be asked soon are there before anybody asks."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.local.nodes import NodeOptions
from deploy.local.stack import LocalStack
from libs.common.clock import SystemClock
from libs.common.records.database import Database
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.gap_history import history_of
from services.scheduler.store import scaling
from tests.acceptance.client import Client, Json
from tests.acceptance.stacks import connected, running_stack
from tests.support.checkpoints import make_tiny_llama
from tests.support.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

# 40 MB take ten seconds, which is longer than a launch.
NODE = NodeOptions(
    "node-0",
    nic_bytes_per_s=4_000_000,
    device_memory_bytes=2**30,
    cores=2,
    host_cache_bytes=2**28,
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, sources: Path
) -> AsyncIterator[LocalStack]:
    folder = tmp_path_factory.mktemp("slow-stack")
    async with running_stack(folder, (NODE,), sources) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(stack: LocalStack) -> AsyncIterator[Client]:
    async with connected(stack) as client:
        yield client


async def rest(stack: LocalStack, model_id: str) -> None:
    """As if it was asked every ten minutes, and 425 s ago for the last time."""
    now_s = SystemClock().monotonic_s()
    known = ModelActivity(history_of([600.0] * 20), idle_since_s=now_s - 425.0, restart_s=10.0)
    database = Database.open(stack.servers.database_settings("scheduler"), pool_size=1)
    async with database.transaction() as session:
        await scaling.write_activities(session, {model_id: known}, now_s)
    await database.close()


async def prefetch_of(client: Client, name: str, state: str) -> Json:
    """The last one, once it is in that state."""

    async def found() -> Json | None:
        prefetches = (await client.model(name))["prefetches"]
        return next((one for one in prefetches if one["state"] == state), None)

    prefetch = await eventually(found, timeout_s=90, poll_s=0.1, what=f"a {state} prefetch")
    assert isinstance(prefetch, dict)
    return prefetch


async def start_with(client: Client, cached_bytes: int) -> Json:
    """The only one, once that much was heard to have come from the host cache: its worker can be
    ready, and gone, before its fetcher has spoken."""

    async def found() -> Json | None:
        (start,) = await client.get("/api/v1/cold-starts?model=regular")
        return start if start["bytes_from_cache"] == cached_bytes else None

    what = f"a start that found {cached_bytes} bytes in the host cache"
    start = await eventually(found, timeout_s=20, poll_s=0.1, what=what)
    assert isinstance(start, dict)
    return start


async def test_a_model_that_is_asked_regularly_starts_with_weights_that_are_there(
    stack: LocalStack, client: Client, sources: Path
) -> None:
    folder = make_tiny_llama(sources / "regular", seed=41, num_layers=4, hidden_size=512)
    slo = {"ttft_ms": 100, "tpot_ms": 1000}
    model = await client.ready("regular", str(folder), keep_alive_s="auto", slo=slo)

    await rest(stack, model["id"])
    complete = await prefetch_of(client, "regular", "COMPLETE")
    response = await client.chat("regular", "go", max_tokens=4)
    used = await prefetch_of(client, "regular", "USED")

    assert response.status_code == 200
    assert complete["node_id"] == "node-0" and used["started_at"] == complete["started_at"]
    start = await start_with(client, model["weight_bytes"])
    assert start["weight_bytes"] == model["weight_bytes"]
    assert complete["file_bytes"] >= model["weight_bytes"] > 30_000_000
