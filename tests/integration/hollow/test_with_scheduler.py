"""A real scheduler that starts a model of the catalogue on hollow nodes."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.controlplane import catalogue
from benchmarks.controlplane.hollow.fetching.manifests import CatalogueManifests
from benchmarks.controlplane.hollow.journal import Journal
from benchmarks.controlplane.hollow.node import HollowNode, NodeParts
from benchmarks.controlplane.hollow.settings import Duration, StartDurations
from benchmarks.controlplane.hollow.workers.data_plane import DataPlane
from libs.common.bus.messages import Generate, GenerateReply, TokensGenerated
from libs.common.bus.subjects import ENDPOINT_GENERATE, REQUEST_TOKENS
from libs.common.sampling import SamplingParameters
from libs.common.states import FinishReason
from libs.common.token_ids import TokenIds
from tests.integration.scheduler.world import QUICK, World
from tests.integration.servers import TestDatabase
from tests.support.waiting import eventually
from tests.unit.benchmarks.hollow.worlds import hollow_settings

NUM_NODES = 4
NUMBER = 3  # of the model
NUM_TOKENS = 20
# Hollow nodes beat as real ones do, each second.
TIMING = replace(QUICK, node_stale_s=10.0, node_lost_s=20.0)


@pytest.fixture
async def world(database: TestDatabase, tmp_path: Path) -> AsyncIterator[World]:
    """A leader, a gateway, hollow nodes, and a model of the catalogue."""
    world = World(database.owner, timing=TIMING)
    await world.gateway.start()
    await world.start_leader()
    async with AsyncExitStack() as stack:
        plane = await DataPlane.open()
        stack.callback(plane.close)
        for index in range(NUM_NODES):
            node = _node(world, f"hollow-{index}", plane, tmp_path)
            await node.start()
            stack.push_async_callback(node.stop)
        heard = (
            "SELECT count(*) FROM nodes "
            "WHERE agent_heard_at IS NOT NULL AND fetcher_heard_at IS NOT NULL"
        )
        await world.until(heard, NUM_NODES)
        yield world
    await world.close()


def _node(world: World, node_id: str, plane: DataPlane, folder: Path) -> HollowNode:
    settings = hollow_settings(
        run_dir=folder,
        nic_bytes_per_s=10**9,
        start=StartDurations(imports=Duration(mean_s=0.1)),
    )
    manifests = CatalogueManifests(settings.catalogue)
    buses = world.broker.bus(), world.broker.bus()
    known = manifests.number_of_unit
    return HollowNode(node_id, NodeParts(settings, manifests, known, Journal(), plane, *buses))


async def _registered_model(world: World) -> str:
    summary = catalogue.summary(NUMBER, {}).model_dump_json()
    digest = catalogue.manifest_digest(NUMBER)
    statement = "INSERT INTO manifests (digest, summary) VALUES (:digest, CAST(:body AS jsonb))"
    await world.execute(statement, digest=digest, body=summary)
    return await world.add_model(
        manifest_digest=digest,
        max_pipeline_size=catalogue.MAX_STAGES,
        kv_cache_bytes=catalogue.KV_CACHE_BYTES,
        keep_alive_s=0.5,
    )


def _request(world: World, endpoint_id: str) -> Generate:
    return Generate(
        request_id="request-1",
        attempt=1,
        endpoint_id=endpoint_id,
        epoch=world.gateway.assigned["request-1"].epoch,
        prompt_ids=TokenIds((3, 5, 7)),
        sampling=SamplingParameters(max_tokens=NUM_TOKENS, seed=1),
        remaining_ms=60_000,
    )


async def test_a_model_starts_as_a_pipeline_is_served_and_leaves_its_units_behind(
    world: World,
) -> None:
    told: list[TokensGenerated] = []

    async def hear(tokens: TokensGenerated) -> None:
        told.append(tokens)

    await world.gateway.bus.subscribe(REQUEST_TOKENS, None, hear)
    await world.gateway.submit(await _registered_model(world), request_id="request-1")
    endpoint_id = await world.assigned("request-1")
    reply = await world.gateway.bus.request(
        ENDPOINT_GENERATE, endpoint_id, _request(world, endpoint_id), timeout_s=5
    )
    assert reply == GenerateReply(result="accepted")
    await world.until_state(endpoint_id, "PIPELINED")
    await eventually(lambda: bool(told and told[-1].finish), what="the end of the answer")
    assert sum(len(part.ids) for part in told) == NUM_TOKENS
    assert told[-1].finish is FinishReason.LENGTH

    num_workers = await world.value("SELECT count(*) FROM workers")
    steps = {row.name for row in await world.rows("SELECT DISTINCT name FROM cold_start_steps")}
    assert num_workers > 1
    assert {"spawn", "import", "linked", "weights", "load", "ready", "prefill"} <= steps
    assert {"fetch", "fetch.first_byte", "fetch.hashed"} <= steps
    await world.finish("request-1")
    await world.until_state(endpoint_id, "STOPPED")
    num_units = "SELECT count(DISTINCT unit_digest) FROM host_cache"
    await world.until(num_units, catalogue.UNITS_PER_MODEL)
