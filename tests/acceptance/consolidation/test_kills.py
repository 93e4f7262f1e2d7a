"""Whoever dies or stands still while a pipeline becomes one worker: every stream ends with the
right tokens, and nothing is left."""

import asyncio
import os
from random import Random

import pytest

from deploy.local.stack import LocalStack
from tests.acceptance.client import Client
from tests.acceptance.consolidation.killing import (
    Kill,
    freeze_stage,
    kill_agent,
    kill_fetcher,
    kill_schedulers,
    kill_stage,
    take_nats_away,
)
from tests.acceptance.consolidation.watching import consolidated, consolidating, state_of_latest
from tests.acceptance.pipeline.driving.disturbed_streams import NUM_STAGES, Model, Models, Stream
from tests.support.figures import Figure

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("agents_are_known"),
]

NUM_TOKENS = 1_500
LONG_PROMPT = "go on " * 400  # so that its keys and values take seconds to come
SERVING_S = 30
FREEZE_S = 5.0
OUTAGE_S = 10.0

WHILE_IT_LOADS = {
    "the entry": kill_stage(0),
    "the last stage": kill_stage(NUM_STAGES - 1),
    "the fetcher of the entry": kill_fetcher,
    "the schedulers": kill_schedulers,
}
WHILE_IT_COPIES = {
    "the entry": kill_stage(0),
    "a stage between": kill_stage(1),
    "the last stage": kill_stage(NUM_STAGES - 1),
    "the schedulers": kill_schedulers,
    "the fetcher of the entry": kill_fetcher,
    "the agent of the entry": kill_agent,
    "NATS, for a while": take_nats_away(OUTAGE_S),
    "a stage between, for a while": freeze_stage(1, FREEZE_S),
}
IN_EVERY_RUN = ("a stage between",)
AT_ANY_MOMENT = tuple({**WHILE_IT_LOADS, **WHILE_IT_COPIES}.values())


async def streaming(models: Models, prompt: str = "go") -> tuple[Model, Stream]:
    model = await models.fresh(keep_alive_s=SERVING_S)
    stream = model.stream(prompt, NUM_TOKENS)
    await stream.until_text()
    return model, stream


@pytest.mark.parametrize("kill", WHILE_IT_LOADS.values(), ids=WHILE_IT_LOADS.keys())
async def test_killed_while_it_loads(
    joining_models: Models, joining_stack: LocalStack, joining_client: Client, kill: Kill
) -> None:
    model, stream = await streaming(joining_models)
    await stream.until(lambda: consolidating(joining_client, model.name), "that it has begun")

    await kill(stream, joining_stack)

    await stream.is_exact()
    await model.gone()


@pytest.mark.parametrize(
    "kill",
    [
        pytest.param(kill, id=name, marks=() if name in IN_EVERY_RUN else pytest.mark.long)
        for name, kill in WHILE_IT_COPIES.items()
    ],
)
async def test_killed_while_keys_and_values_are_copied(
    joining_models: Models, joining_stack: LocalStack, kill: Kill
) -> None:
    model, stream = await streaming(joining_models, LONG_PROMPT)
    await stream.until(lambda: is_copying(model), "that it copies")

    await kill(stream, joining_stack)

    await stream.is_exact()
    await model.gone()


async def is_copying(model: Model) -> bool:
    state = await state_of_latest(model)
    assert state in (None, "LOADING", "COPYING"), f"it went by unseen: {state}"
    return state == "COPYING"


@pytest.mark.parametrize("kill", [kill_stage(0), kill_schedulers], ids=["it", "the schedulers"])
async def test_killed_once_it_is_one_worker(
    joining_models: Models, joining_stack: LocalStack, joining_client: Client, kill: Kill
) -> None:
    model, stream = await streaming(joining_models)
    await stream.until(lambda: consolidated(joining_client, model.name), "one worker")

    await kill(stream, joining_stack)

    await stream.is_exact()
    await model.gone()


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_killed_at_any_moment_of_the_copy_and_the_switch(
    joining_models: Models, joining_stack: LocalStack, figure: Figure
) -> None:
    """The switch itself lasts some hundredths of a second: most of these hit what is around it."""
    seed = int(os.environ.get("HYDRASERVE_TEST_SEED", 13))
    random, states = Random(seed), list[object]()
    for _ in range(30):
        kill, delay_s = random.choice(AT_ANY_MOMENT), random.uniform(0.0, 4.0)
        model, stream = await streaming(joining_models, LONG_PROMPT)
        await stream.until(lambda model=model: is_copying(model), "that it copies")  # type: ignore[misc]
        await asyncio.wait({stream.task}, timeout=delay_s)

        states.append(await state_of_latest(model))
        await kill(stream, joining_stack)

        await stream.is_exact()
        await model.gone()
    figure(f"seed {seed}: killed in {states}")
