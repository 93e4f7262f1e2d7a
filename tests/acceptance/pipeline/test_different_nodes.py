"""Nodes that differ in network card, memory and cores: plans follow, and the API says so."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.local.nodes import NodeOptions
from deploy.local.stack import LocalStack
from services.scheduler.policy.planning.survey import SAME_S
from tests.acceptance.client import Client, Json
from tests.acceptance.observing import nodes, pools_filled, settled
from tests.acceptance.stacks import connected, running_stack
from tests.support.checkpoints import make_tiny_llama
from tests.support.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

# Twelve layers of 9.4 MB take three seconds over a slow card, and less than one over all three.
# With 12.6 MB of KV cache only the large node holds the whole model.
SLOW, FAST = 40_000_000, 160_000_000
SMALL, LARGE = 96 * 2**20, 192 * 2**20
NODES = (
    NodeOptions("fast", FAST, SMALL, cores=1, host_cache_bytes=2**28),
    NodeOptions("large", SLOW, LARGE, cores=2, host_cache_bytes=2**28),
    NodeOptions("plain", SLOW, SMALL, cores=1, host_cache_bytes=2**28),
)
LOOSE_MS, TIGHT_MS = 600_000, 1


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def uneven_stack(
    tmp_path_factory: pytest.TempPathFactory, sources: Path
) -> AsyncIterator[LocalStack]:
    folder = tmp_path_factory.mktemp("uneven")
    async with running_stack(folder, NODES, sources) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def uneven_client(uneven_stack: LocalStack) -> AsyncIterator[Client]:
    async with connected(uneven_stack) as client:
        yield client


async def test_plans_follow_network_and_memory_of_each_node(
    uneven_client: Client, uneven_stack: LocalStack, sources: Path
) -> None:
    await pools_filled(uneven_stack, uneven_client)
    loose, alone = await cold_start(uneven_client, sources, "loose", LOOSE_MS)
    await uneven_client.delete("loose")
    await settled(uneven_stack, uneven_client)
    await pools_filled(uneven_stack, uneven_client)
    before = {node_id: node["cache_used_bytes"] for node_id, node in alone.items()}
    tight, together = await cold_start(uneven_client, sources, "tight", TIGHT_MS)

    # One worker: where the memory is, though the card is slow.
    assert loose["plans"][0]["nodes"] == ["large"]
    assert loose["plans"][0]["verdict"] == "taken: the cheapest that meets both targets"
    whole_bytes = reserved(alone, "large")
    assert SMALL < whole_bytes < LARGE

    # Three: the large one is the entry, with memory for all, and the fast one fetches the most.
    taken = tight["plans"][0]
    assert (taken["num_stages"], taken["num_full"], taken["nodes"][0]) == (3, 1, "large")
    assert set(taken["nodes"]) == {"fast", "large", "plain"}
    assert taken["verdict"].startswith("taken: no plan meets both targets, this is the soonest")
    assert reserved(together, "large") == whole_bytes
    assert 0 < reserved(together, "plain") < reserved(together, "fast") <= SMALL
    fetched = {id_: node["cache_used_bytes"] - before[id_] for id_, node in together.items()}
    assert fetched["fast"] > 2 * max(fetched["large"], fetched["plain"])

    # The others are told with what they would have taken, and the prediction with what happened.
    assert {plan["num_stages"] for plan in tight["plans"]} == {1, 2, 3}
    (one,) = [plan for plan in tight["plans"] if plan["num_stages"] == 1]
    assert one["nodes"] == ["large"] and not one["verdict"].startswith("taken")
    assert one["ttft_ms"] > taken["ttft_ms"] - 1000 * SAME_S
    for start in (loose, tight):
        expected_ms = start["plans"][0]["ttft_ms"]
        assert start["predicted_ttft_ms"] == pytest.approx(expected_ms, abs=0.1)
        assert start["measured_ttft_ms"] > 0
    await uneven_client.delete("tight")
    await settled(uneven_stack, uneven_client)


async def cold_start(
    client: Client, sources: Path, name: str, ttft_ms: int
) -> tuple[Json, dict[str, Json]]:
    """Of the model's first request, with the nodes while its endpoint is there. Weights of its own:
    nothing of it is in any host cache."""
    folder = make_tiny_llama(
        sources / f"uneven-{name}", seed=ttft_ms, num_layers=12, hidden_size=512
    )
    settings = {"max_slots": 1, "max_context_tokens": 512, "keep_alive_s": 300}
    slo = {"ttft_ms": ttft_ms, "tpot_ms": 600_000}
    await client.ready(name, str(folder), slo=slo, **settings)
    answer = await client.stream(name, "hi", max_tokens=2)
    assert answer.is_complete, answer
    await eventually(lambda: is_measured(client, name), poll_s=0.1, what="its first token's time")
    (summary,) = await client.get(f"/api/v1/cold-starts?model={name}")
    found: Json = await client.get(f"/api/v1/cold-starts/{summary['id']}")
    return found, {node["id"]: node for node in await nodes(client)}


async def is_measured(client: Client, name: str) -> bool:
    (summary,) = await client.get(f"/api/v1/cold-starts?model={name}")
    return summary["measured_ttft_ms"] is not None


def reserved(found: dict[str, Json], node_id: str) -> int:
    return sum(device["reserved_bytes"] for device in found[node_id]["devices"])
