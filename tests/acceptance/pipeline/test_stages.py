"""The same tokens from one stage as from four, and the timeline of all of them."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from tests.acceptance.client import Client, Json
from tests.acceptance.observing import live_endpoints, settled
from tests.acceptance.pipeline.conftest import NUM_NODES
from tests.acceptance.pipeline.disturbing import Models
from tests.support.figures import Figure
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("agents_are_known"),
]

NUM_PROMPTS = 20
NUM_TOKENS = 24
STAGE_STEPS = (
    *("tell fetcher", "tell agent", "fetch", "spawn", "bind", "connect", "linked", "import"),
    *("map_units", "weights", "build_engine", "load", "ready", "prefill"),
)


async def registered(client: Client, name: str, source: Path, num_stages: int) -> str:
    await client.ready(name, str(source), keep_alive_s=3, max_pipeline_size=num_stages)
    return name


async def answers(client: Client, model: str) -> list[str]:
    streams = (
        client.stream(model, f"prompt {i}", max_tokens=NUM_TOKENS, temperature=0)
        for i in range(NUM_PROMPTS)
    )
    found = await asyncio.gather(*streams)
    assert all(answer.is_complete for answer in found), found
    return [answer.text for answer in found]


async def gone(client: Client, stack: LocalStack, model: str) -> None:
    await client.delete(model)
    await settled(stack, client)


@pytest.mark.long
async def test_four_stages_say_what_one_says(
    wide_client: Client, wide_stack: LocalStack, layered: Path, figure: Figure
) -> None:
    texts = {}
    for num_stages in (4, 3, 2, 1):
        model = await registered(wide_client, f"stages-{num_stages}", layered, num_stages)
        texts[num_stages] = await answers(wide_client, model)
        (endpoint,) = await live_endpoints(wide_client, model)
        assert len({worker["node_id"] for worker in endpoint["workers"]}) == num_stages
        assert endpoint["state"] == ("PIPELINED" if num_stages > 1 else "STANDALONE")
        await gone(wide_client, wide_stack, model)
    num_parted = [
        sum(ours != theirs for ours, theirs in zip(texts[s], texts[1], strict=True))
        for s in (2, 3, 4)
    ]
    figure(f"parted from one stage's text, of {NUM_PROMPTS}, at 2, 3, 4 stages: {num_parted}")
    assert max(num_parted) <= NUM_PROMPTS // 5


async def test_a_cold_start_shows_every_step_of_every_stage_and_what_it_waited_for(
    models: Models,
) -> None:
    model = await models.fresh()
    await model.stream("go", NUM_TOKENS).is_exact()
    (listed,) = await models.client.get(f"/api/v1/cold-starts?model={model.name}")

    async def told() -> Json | None:
        """The last steps are told with the next heartbeats."""
        start: Json = await models.client.get(f"/api/v1/cold-starts/{listed['id']}")
        return start if has_all_steps(start["steps"]) else None

    start: Json = await eventually(told, timeout_s=30, what="every step")  # type: ignore[assignment]  # what `told` returns
    path = start["critical_path"]
    assert path[-1]["name"] == "first_token"
    assert all(a["ended_at"] == b["started_at"] for a, b in pairwise(path))
    assert abs(sum(part["fraction"] for part in start["shares"]) - 1) < 1e-6
    await model.gone()


def has_all_steps(steps: list[Json]) -> bool:
    ended = {(s["stage_index"], s["name"]) for s in steps if s["ended_at"] is not None}
    wanted = {(index, name) for index in range(NUM_NODES) for name in STAGE_STEPS}
    return wanted | {(None, "queue"), (None, "plan"), (0, "first_token")} <= ended
