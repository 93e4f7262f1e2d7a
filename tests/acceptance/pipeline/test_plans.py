"""A model's targets decide how many workers a cold start gets, and the API says why."""

from typing import Any

import pytest

from deploy.local.stack import LocalStack
from tests.acceptance.client import Client, Json
from tests.acceptance.observing import live_endpoints, settled
from tests.acceptance.pipeline.conftest import NUM_NODES
from tests.acceptance.pipeline.driving.disturbed_streams import Models

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("agents_are_known"),
]

LOOSE_MS = 600_000


async def test_a_loose_target_starts_one_worker_and_a_tight_one_four(
    wide_client: Client, wide_stack: LocalStack, models: Models
) -> None:
    loose = await cold_start(wide_client, wide_stack, await model(models, LOOSE_MS))
    # Some 6 s over one network card, more than any launch takes.
    between_ms = between_one_and_four(loose)
    middle = await cold_start(wide_client, wide_stack, await model(models, between_ms))
    tight = await cold_start(wide_client, wide_stack, await model(models, 1))

    assert num_workers(loose) == 1
    assert loose["plans"][0]["verdict"] == "taken: the cheapest that meets both targets"
    assert {plan["num_stages"] for plan in loose["plans"]} == set(range(1, NUM_NODES + 1))
    assert all("costs" in plan["verdict"] for plan in loose["plans"][1:])

    assert num_workers(middle) > 1
    (alone,) = [plan for plan in middle["plans"] if plan["num_stages"] == 1]
    assert alone["verdict"].startswith("first token after")
    assert middle["predicted_ttft_ms"] <= between_ms

    assert num_workers(tight) == NUM_NODES
    assert tight["plans"][0]["verdict"].startswith("taken: no plan meets both targets")


async def model(models: Models, ttft_ms: int) -> str:
    """Weights of its own: nothing of it is in any host cache."""
    slo = {"ttft_ms": ttft_ms, "tpot_ms": 600_000}
    made = await models.fresh(
        num_layers=8, hidden_size=1024, min_pipeline_size=1, slo=slo, keep_alive_s=300
    )
    return made.name


async def cold_start(client: Client, stack: LocalStack, name: str) -> Json:
    """Of the model's first request; then the model goes, and its endpoint with it."""
    answer = await client.stream(name, "hi", max_tokens=2)
    assert answer.is_complete, answer
    (summary,) = await client.get(f"/api/v1/cold-starts?model={name}")
    found: Json = await client.get(f"/api/v1/cold-starts/{summary['id']}")
    (endpoint,) = await live_endpoints(client, name)
    assert len(endpoint["workers"]) == num_workers(found)
    await client.delete(name)
    await settled(stack, client)
    return found


def num_workers(start: Json) -> int:
    num_stages: int = start["plans"][0]["num_stages"]
    return num_stages


def between_one_and_four(start: Json) -> int:
    """A target that one worker misses and four meet, by what was predicted of the first start."""

    def ready_ms(num_stages: int) -> Any:
        return min(p["ready_ms"] for p in start["plans"] if p["num_stages"] == num_stages)

    one_ms, four_ms = ready_ms(1), ready_ms(NUM_NODES)
    assert one_ms > 1.5 * four_ms
    return int((one_ms + four_ms) / 2)
