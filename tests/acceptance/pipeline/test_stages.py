"""The same tokens from one stage as from four, and the timeline of all of them."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from tests.acceptance.client import Client, Json
from tests.acceptance.observing import live_endpoints, settled
from tests.acceptance.pipeline.conftest import NUM_NODES
from tests.acceptance.pipeline.driving.disturbed_streams import Models
from tests.support.failures import require_tokens
from tests.support.figures import Figure
from tests.support.spans import SpanRecord, trace_of
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
    *("map_units", "weights", "build_engine", "load", "ready", "prefill", "hop"),
)


async def registered(client: Client, name: str, source: Path, num_stages: int) -> str:
    await client.ready(
        name,
        str(source),
        keep_alive_s=3,
        min_pipeline_size=num_stages,
        max_pipeline_size=num_stages,
    )
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
    require_tokens(max(num_parted) <= NUM_PROMPTS // 5, f"parted: {num_parted}")


async def test_a_cold_start_shows_every_step_of_every_stage_and_what_it_waited_for(
    models: Models, wide_stack: LocalStack
) -> None:
    """In the API, and as spans of the trace that began with the HTTP request."""
    model = await models.fresh()
    stream = model.stream("go", NUM_TOKENS)
    await stream.is_exact()
    start = await whole_start(models.client, model.name)
    assert len({step["node_id"] for step in start["steps"]} - {None}) == NUM_NODES

    path = start["critical_path"]
    assert [step["name"] for step in path[-3:]] == ["hop", "head", "first_token"], path
    assert all(a["ended_at"] == b["started_at"] for a, b in pairwise(path))
    assert abs(sum(part["fraction"] for part in start["shares"]) - 1) < 1e-6
    assert stream.answer.request_id is not None
    await has_every_step(wide_stack.options.state.traces, stream.answer.request_id, start)
    await model.gone()


async def whole_start(client: Client, model: str) -> Json:
    """The model's only cold start, once all is told: the last steps come with heartbeats."""
    (listed,) = await client.get(f"/api/v1/cold-starts?model={model}")

    async def told() -> Json | None:
        start: Json = await client.get(f"/api/v1/cold-starts/{listed['id']}")
        return start if has_all_steps(start["steps"]) else None

    start: Json = await eventually(told, timeout_s=30, what="every step")  # type: ignore[assignment]  # what `told` returns
    return start


async def has_every_step(traces: Path, request_id: str, start: Json) -> None:
    """Each step of the record is a child of the cold start's span, which the request began."""
    wanted = {span_of(step) for step in start["steps"] if "." not in step["name"]}

    def whole() -> list[SpanRecord]:  # processes write theirs once a second
        trace = trace_of(request_id, traces)
        names = {"cold start", "worker.generate"} <= {span.name for span in trace}
        return trace if names and wanted <= set(map(identity, trace)) else []

    try:
        trace: list[SpanRecord] = await eventually(whole, timeout_s=30, poll_s=0.2)  # type: ignore[assignment]  # what `whole` returns
    except AssertionError as exc:
        found = set(map(identity, trace_of(request_id, traces)))
        raise AssertionError(f"no spans of {sorted(wanted - found)}") from exc
    by_id = {span.span_id: span for span in trace}
    roots = [span for span in trace if span.parent_id not in by_id]
    assert [(root.service, root.parent_id) for root in roots] == [("gateway", None)]
    (cold_start,) = [span for span in trace if span.name == "cold start"]
    parents = {span.parent_id for span in trace if identity(span) in wanted}
    assert parents == {cold_start.span_id}


def span_of(step: Json) -> tuple[str, str]:
    """The name of the span that says the same as a step, and which worker or fetch it is of."""
    actor, _, id_ = step["actor"].rpartition("/")
    if actor == "fetch":
        return step["name"], id_
    if step["actor"].startswith("scheduler"):
        return f"scheduler.{step['name']}", id_ if actor else ""
    return f"worker.{step['name']}", id_


def identity(span: SpanRecord) -> tuple[str, str]:
    keys = ("worker_id", "receiver_id", "hydra.fetch_id")
    return span.name, next((span.attributes[key] for key in keys if key in span.attributes), "")


def has_all_steps(steps: list[Json]) -> bool:
    ended = {(s["stage_index"], s["name"]) for s in steps if s["ended_at"] is not None}
    wanted = {(index, name) for index in range(NUM_NODES) for name in STAGE_STEPS}
    return wanted | {(None, "queue"), (None, "plan"), (0, "head"), (0, "first_token")} <= ended
