"""Pipelines of simulated nodes that may become one worker."""

from typing import Any

from libs.common.bus.messages import WorkerObserved, WorkerSpec
from libs.common.states import FetchPurpose
from tests.integration.scheduler.simulated import SimulatedNode
from tests.integration.scheduler.world import World
from tests.support.waiting import eventually

NUM_STAGES = 4
STATES = "SELECT string_agg(state, ' ' ORDER BY started_at) FROM consolidations"
OPEN = "SELECT count(*) FROM consolidations WHERE ended_at IS NULL"


async def serve(world: World, *, is_held: bool = False, **values: Any) -> str:
    """Of four stages on four nodes. `is_held`: nothing that its entry lacks arrives."""
    for i in range(NUM_STAGES):
        await world.add_node(f"node-{i}")
    hold_fetches(world, are_held=is_held)
    await world.until_heard(NUM_STAGES)
    model_id = await world.add_model(max_pipeline_size=NUM_STAGES, **values)
    await world.gateway.submit(model_id, request_id="request-1")
    endpoint_id = await world.assigned("request-1")
    await world.until_state(endpoint_id, "PIPELINED", "CONSOLIDATING", "STANDALONE")
    return endpoint_id


async def consolidating(world: World, **values: Any) -> str:
    """One whose entry waits for the layers that it lacks."""
    endpoint_id = await serve(world, is_held=True, **values)
    await world.until_state(endpoint_id, "CONSOLIDATING")
    await eventually(lambda: entry_seen(world).consolidation, what="the entry's word")
    return endpoint_id


def hold_fetches(world: World, *, are_held: bool) -> None:
    """Of what entries lack; what starts need arrives."""
    for node in world.nodes.values():
        node.fetcher.held = {FetchPurpose.CONSOLIDATION} if are_held else set()


def entry(world: World) -> SimulatedNode:
    """The node of the worker that the gateway speaks with."""
    return next(n for n in world.nodes.values() if _stage_zero(n) is not None)


def entry_spec(world: World) -> WorkerSpec:
    spec = _stage_zero(entry(world))
    assert spec is not None
    return spec


def entry_seen(world: World) -> WorkerObserved:
    return entry(world).agent.workers[entry_spec(world).worker_id]


def others(world: World) -> list[SimulatedNode]:
    return [node for node in world.nodes.values() if node is not entry(world)]


def _stage_zero(node: SimulatedNode) -> WorkerSpec | None:
    specs = () if node.agent.accepted is None else node.agent.accepted.workers
    return next((spec for spec in specs if spec.stage_index == 0), None)
