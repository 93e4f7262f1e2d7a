"""Bursts of requests to cold models: one start each, and every request answered or refused."""

import asyncio
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from tests.acceptance.client import Client
from tests.acceptance.observing import live_endpoints, nodes
from tests.acceptance.pipeline.conftest import NUM_NODES
from tests.acceptance.pipeline.driving.bursts import (
    BurstModel,
    Figures,
    check_answers,
    check_one_start,
    send,
    spread,
)
from tests.acceptance.pipeline.driving.leftovers import nothing_left
from tests.acceptance.pipeline.driving.questions import require_right_tokens
from tests.support.figures import Figure

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("agents_are_known"),
]

NUM_MODELS = 8
WIDE = 256  # 14 MB of weights: worth fetching on four nodes
FITS_ONE_NODE_BYTES = 13 * 2**27  # of KV cache; four such models fill the four nodes
FITS_NO_NODE_BYTES = 9 * 2**28  # needs four stages; three such models fill the four nodes


@pytest.fixture(scope="module")
def one(sources: Path) -> BurstModel:
    return BurstModel.make(sources / "burst", seed=50, hidden_size=WIDE)


@pytest.fixture(scope="module")
def eight(sources: Path) -> list[BurstModel]:
    return [BurstModel.make(sources / f"burst-{i}", seed=60 + i) for i in range(NUM_MODELS)]


@pytest.mark.parametrize("count", [1, 5, 25, pytest.param(100, marks=pytest.mark.long)])
async def test_a_burst_to_one_cold_model_starts_it_once(
    wide_client: Client, wide_stack: LocalStack, one: BurstModel, count: int, figure: Figure
) -> None:
    name = f"burst-of-{count}"
    await wide_client.ready(
        name,
        str(one.folder),
        keep_alive_s=1,
        min_pipeline_size=NUM_NODES,
        max_pipeline_size=NUM_NODES,
    )
    burst = await send(wide_client, one.questions(name, count))

    check_answers(burst)
    await check_one_start(wide_client, name)
    assert all(asked.is_right for asked in burst), "its queue has room for all"
    figure(f"{Figures.of(burst)}")
    await wide_client.delete(name)
    await nothing_left(wide_stack, wide_client)


@pytest.mark.long
async def test_a_burst_beyond_the_queue_is_refused_in_part_and_starts_the_model_once(
    wide_client: Client, wide_stack: LocalStack, one: BurstModel, figure: Figure
) -> None:
    settings = {
        "max_queue": 20,
        "max_slots": 4,
        "min_pipeline_size": NUM_NODES,
        "max_pipeline_size": NUM_NODES,
    }
    await wide_client.ready("narrow-burst", str(one.folder), keep_alive_s=1, **settings)
    burst = await send(wide_client, one.questions("narrow-burst", 100))

    check_answers(burst)
    await check_one_start(wide_client, "narrow-burst")
    figures = Figures.of(burst)
    assert figures.num_refused > 0 and figures.num_answered >= 20
    figure(f"{figures}")
    await wide_client.delete("narrow-burst")
    await nothing_left(wide_stack, wide_client)


@pytest.mark.parametrize(
    ("count", "kv_bytes"),
    [
        (16, FITS_ONE_NODE_BYTES),
        pytest.param(100, FITS_NO_NODE_BYTES, marks=pytest.mark.long),
        pytest.param(8 * NUM_MODELS, FITS_ONE_NODE_BYTES, marks=pytest.mark.long),
        pytest.param(25 * NUM_MODELS, FITS_ONE_NODE_BYTES, marks=pytest.mark.long),
    ],
)
async def test_a_burst_to_eight_cold_models_that_do_not_all_fit_starts_each_once(
    wide_client: Client,
    wide_stack: LocalStack,
    eight: list[BurstModel],
    count: int,
    kv_bytes: int,
    figure: Figure,
) -> None:
    names = [f"eight-{count}-{i}" for i in range(NUM_MODELS)]
    settings = {
        "keep_alive_s": 1,
        "kv_cache_bytes": kv_bytes,
        "min_pipeline_size": NUM_NODES,
        "max_pipeline_size": NUM_NODES,
    }
    for name, model in zip(names, eight, strict=True):
        await wide_client.ready(name, str(model.folder), **settings)
    memory_bytes = sum(d["memory_bytes"] for n in await nodes(wide_client) for d in n["devices"])
    assert NUM_MODELS * kv_bytes > memory_bytes
    burst = await send(wide_client, spread(names, eight, count))

    check_answers(burst)
    for name in names:
        await check_one_start(wide_client, name)
    figure(f"{Figures.of(burst)}")
    await asyncio.gather(*(wide_client.delete(name) for name in names))
    await nothing_left(wide_stack, wide_client)


async def test_ten_requests_during_a_four_stage_start_and_ten_after_it_are_answered_alike(
    wide_client: Client, wide_stack: LocalStack, one: BurstModel
) -> None:
    settings = {"keep_alive_s": 5, "min_pipeline_size": NUM_NODES, "max_pipeline_size": NUM_NODES}
    await wide_client.ready("ten", str(one.folder), **settings)
    during = await send(wide_client, one.questions("ten", 10))
    after = await send(wide_client, one.questions("ten", 10))

    require_right_tokens((*during, *after))
    assert all(asked.is_right for asked in (*during, *after)), (during, after)
    await check_one_start(wide_client, "ten")
    (endpoint,) = await live_endpoints(wide_client, "ten")
    assert len({worker["node_id"] for worker in endpoint["workers"]}) == NUM_NODES
    await wide_client.delete("ten")
    await nothing_left(wide_stack, wide_client)
