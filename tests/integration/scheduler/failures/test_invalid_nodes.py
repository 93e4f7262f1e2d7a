"""A node that says what cannot be taken in is marked, counts as silent, and costs nobody else."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from libs.common.bus.messages import AgentHeartbeat, EngineObserved
from libs.common.states import EngineKind
from tests.integration.scheduler.simulated import SimulatedNode
from tests.integration.scheduler.world import MODEL_BYTES, World

REFUSED = EngineObserved.model_construct(engine=EngineKind.STAGE, launch_ms=-1, worker_bytes=None)
INVALID = "SELECT agent_invalid FROM nodes WHERE id='node-1'"


def beats(node: SimulatedNode, changed: Callable[[AgentHeartbeat], AgentHeartbeat]) -> None:
    """From now on its agent's heartbeats are these."""
    sound = node.agent.heartbeat
    node.agent.heartbeat = lambda: changed(sound())  # type: ignore[method-assign]  # its own


def of_worker(**changes: Any) -> Callable[[AgentHeartbeat], AgentHeartbeat]:
    def change(beat: AgentHeartbeat) -> AgentHeartbeat:
        workers = tuple(worker.model_copy(update=changes) for worker in beat.workers)
        return beat.model_copy(update={"workers": workers})

    return change


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        pytest.param(of_worker(address="nowhere"), "workers.address", id="address"),
        pytest.param(of_worker(public_key="?"), "workers.public_key", id="key"),
        pytest.param(of_worker(pid=2**63), "workers.pid", id="integer"),
        pytest.param(of_worker(idle_ms=2**62), "workers.idle_ms", id="duration"),
        pytest.param(
            lambda beat: beat.model_copy(update={"engines": (REFUSED,)}),
            "engines.launch_ms",
            id="refused by its class",
        ),
        pytest.param(
            lambda beat: beat.model_copy(update={"accepted_version": 2**63 - 1}),
            "accepted_version",
            id="version",
        ),
    ],
)
async def test_an_invalid_node_loses_its_workers_after_the_usual_time_and_others_go_on(
    world: World, changed: Callable[[AgentHeartbeat], AgentHeartbeat], field: str
) -> None:
    node = await world.add_node("node-1", memory_bytes=MODEL_BYTES)
    broken, sound = await world.add_model("broken"), await world.add_model("sound")
    endpoint_id = await world.start_endpoint(broken, "request-1")
    await world.add_node("node-2", memory_bytes=MODEL_BYTES)

    node.behaviour.stops_undesired = False  # it has the same to say for ever
    beats(node, changed)

    await world.until_state(endpoint_id, "FAILED")
    assert field in str(await world.value(INVALID))
    await world.finish("request-1")
    await world.start_endpoint(sound, "request-2")


async def test_a_node_is_valid_again_with_its_next_valid_heartbeat(world: World) -> None:
    world.timing = replace(world.timing, node_lost_s=60.0)
    await world.restart_leader()
    node = await world.add_node("node-1")
    model_id = await world.add_model()
    endpoint_id = await world.start_endpoint(model_id)
    sound = node.agent.heartbeat
    beats(node, of_worker(address="nowhere"))
    await world.until("SELECT count(*) FROM nodes WHERE agent_invalid IS NOT NULL", 1)
    await world.restart_leader()  # the mark is in the rows

    node.agent.heartbeat = sound  # type: ignore[method-assign]  # its own again

    await world.until("SELECT count(*) FROM nodes WHERE agent_invalid IS NOT NULL", 0)
    assert await world.endpoint_state(endpoint_id) == "STANDALONE"


async def test_a_node_that_was_never_valid_is_listed_with_what_is_wrong(world: World) -> None:
    node = SimulatedNode("node-1", world.broker.bus(), memory_bytes=-1)
    node.fetcher.heartbeat = lambda: node.agent.heartbeat()  # type: ignore[method-assign,assignment,return-value]  # no fetcher's
    world.nodes["node-1"] = node
    await node.start()

    await world.until(INVALID, f"devices.memory_bytes is not between 0 and {2**63 - 1}")
    fetcher = "SELECT fetcher_invalid IS NOT NULL FROM nodes WHERE id='node-1'"
    await world.until(fetcher, True)
