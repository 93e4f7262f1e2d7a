"""Which engine a model's workers run, and what nodes have measured of engines."""

import pytest

from libs.common.bus.messages import EngineObserved
from libs.common.engines import PRIORS
from libs.common.states import EngineChoice, EngineKind
from services.scheduler.store.devices import load_sizes, lock_devices
from tests.integration.scheduler.world import World


@pytest.mark.parametrize("choice", [EngineChoice.AUTO, EngineChoice.STAGE])
async def test_workers_are_told_the_engine_that_their_model_asks_for(
    world: World, choice: EngineChoice
) -> None:
    node = await world.add_node("node-1")
    model_id = await world.add_model(engine=choice.value)

    await world.start_endpoint(model_id)

    assert node.agent.accepted is not None
    (spec,) = node.agent.accepted.workers
    assert spec.engine is EngineKind.STAGE
    assert await world.value("SELECT engine FROM workers") == EngineKind.STAGE.value


async def engine_rows(world: World) -> list[tuple[str, float | None, int | None]]:
    rows = await world.rows("SELECT engine, launch_s, worker_bytes FROM node_engines ORDER BY 1")
    return [tuple(row) for row in rows]


async def test_what_a_node_has_measured_is_kept_until_it_is_measured_anew(world: World) -> None:
    node = await world.add_node("node-1")
    node.agent.engines = (EngineObserved(engine=EngineKind.STAGE, launch_ms=2500),)
    await world.until("SELECT launch_s FROM node_engines", 2.5)

    node.agent.restart()
    await world.restart_leader()
    vllm = EngineObserved(engine=EngineKind.VLLM, launch_ms=20_000)
    node.agent.engines = (EngineObserved(engine=EngineKind.STAGE, worker_bytes=2**30), vllm)
    await world.until("SELECT count(*) FROM node_engines", 2)

    assert await engine_rows(world) == [("stage", 2.5, 2**30), ("vllm", 20.0, None)]


async def test_devices_offer_what_their_nodes_have_measured_and_otherwise_the_priors(
    world: World,
) -> None:
    measured = await world.add_node("node-1")
    await world.add_node("node-2")
    measured.agent.engines = (
        EngineObserved(engine=EngineKind.STAGE, launch_ms=2500, worker_bytes=2**30),
    )
    await world.until("SELECT count(*) FROM gpus", 2)
    await world.until("SELECT launch_s FROM node_engines", 2.5)
    await world.execute("UPDATE gpus SET kind = 'cuda'")

    async with world.database.transaction() as session:
        offered = await lock_devices(session, list(world.nodes))
        sizes = await load_sizes(session)

    prior = PRIORS[EngineKind.STAGE]
    expected = [(2.5, 2**30), (prior.launch_s, prior.worker_bytes)]
    assert [(device.launch_s, device.worker_bytes) for device in offered] == expected
    assert [size.worker_bytes for size in sizes] == [worker_bytes for _, worker_bytes in expected]
