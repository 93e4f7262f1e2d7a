"""A pipeline becomes one worker while it answers, and nobody notices but by the speed."""

import asyncio

import pytest

from deploy.local.stack import LocalStack
from tests.acceptance.client import Client
from tests.acceptance.consolidation.watching import consolidated, endpoint_of
from tests.acceptance.observing import reserved_bytes, worker_pids
from tests.acceptance.pipeline.driving.disturbed_streams import Models
from tests.support.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

NUM_TOKENS = 1_500
SERVING_S = 30  # long enough that it pays


async def test_a_stream_goes_on_exactly_while_its_pipeline_becomes_one_worker(
    joining_models: Models, joining_stack: LocalStack, joining_client: Client
) -> None:
    model = await joining_models.fresh(keep_alive_s=SERVING_S)
    stream = model.stream("go", NUM_TOKENS)
    await stream.until_text()
    before = await endpoint_of(joining_client, model.name)

    after = await stream.until(lambda: consolidated(joining_client, model.name), "one worker")

    assert after["id"] == before["id"] and after["generation"] == 2
    await stream.is_exact()
    await eventually(
        lambda: len(worker_pids(joining_stack)) == 1, what="the end of the other stages"
    )
    await alone(joining_client, model.name)
    await steps_are_told(joining_client, model.name)
    held = await reserved_bytes(joining_client)
    assert held < 2 * 2**30, "what the other stages had is free"
    await model.gone()


async def alone(client: Client, model: str) -> None:
    async def is_alone() -> bool:
        workers = (await endpoint_of(client, model))["workers"]
        return [w["stage_index"] for w in workers if w["ended_at"] is None] == [0]

    await eventually(is_alone, what="the end of the other workers")


async def steps_are_told(client: Client, model: str) -> None:
    names = (
        *("consolidation.load", "consolidation.drain", "consolidation.move"),
        "consolidation.first_step",
    )

    async def are_all_told() -> bool:
        (start,) = await client.get(f"/api/v1/cold-starts?model={model}")
        whole = await client.get(f"/api/v1/cold-starts/{start['id']}")
        told = {step["name"] for step in whole["steps"] if step["ended_at"] is not None}
        return told.issuperset(names)

    await eventually(are_all_told, what=f"the steps {', '.join(names)}")


async def test_streams_in_company_go_on_exactly(
    joining_models: Models, joining_client: Client
) -> None:
    model = await joining_models.fresh(keep_alive_s=SERVING_S)
    streams = [model.stream(f"go {n}", 800 + 200 * n) for n in range(4)]
    await streams[0].until_text()

    await streams[-1].until(lambda: consolidated(joining_client, model.name), "one worker")

    answers = await asyncio.gather(*(stream.task for stream in streams))
    assert all(answer.is_complete for answer in answers)
    for stream in streams:
        await stream.is_exact()
    await model.gone()


async def test_an_idle_pipeline_that_is_kept_for_long_becomes_one_worker(
    joining_models: Models, joining_client: Client
) -> None:
    model = await joining_models.fresh(keep_alive_s=120)
    first = model.stream("go", 20)
    await first.task

    await eventually(
        lambda: consolidated(joining_client, model.name), timeout_s=60, what="one worker"
    )

    await alone(joining_client, model.name)
    await first.is_exact()
    await model.gone()
