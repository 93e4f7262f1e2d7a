"""What counts against a request of the endpoints that it was lost with."""

from dataclasses import replace

import pytest

from libs.common.causes import Cause, CauseKind
from libs.common.states import WorkerState
from tests.integration.scheduler.world import QUICK, World
from tests.support.waiting import eventually

KILLED = Cause.of(CauseKind.PROCESS_EXITED, signal="SIGKILL")
FELT = Cause.of(CauseKind.DEVICE_FAILED, detail="the card fell off the bus")
SLOW_TO_LOSE = replace(QUICK, node_lost_s=60.0, node_stale_s=60.0)  # a node that is silent
COUNTS = "SELECT num_engine_crashes, num_node_losses FROM requests WHERE id = :id"


async def serving(world: World, request_id: str = "request-1") -> str:
    """The endpoint that it was given, once that serves."""
    endpoint_id = await world.assigned(request_id)
    await world.until_state(endpoint_id, "STANDALONE")
    return endpoint_id


async def crash(world: World, endpoint_id: str, cause: Cause = KILLED) -> None:
    """Its node says so, also one that was silent until now."""
    for node in world.nodes.values():
        for worker in list(node.agent.workers.values()):
            if worker.endpoint_id == endpoint_id:
                node.agent.change(worker.worker_id, state=WorkerState.FAILED, cause=cause)
                node.behaviour.is_silent = False
                await node.beat()


async def report_first(world: World, model_id: str, endpoint_id: str) -> None:
    """The gateway tells of the loss before the scheduler has heard of it."""
    for node in world.nodes.values():
        node.behaviour.is_silent = True
    await world.gateway.resubmit(model_id, "request-1", has_progressed=True)
    await world.require_uncounted(endpoint_id)


async def fail(world: World, endpoint_id: str, cause: Cause = KILLED) -> None:
    await crash(world, endpoint_id, cause)
    await world.until_state(endpoint_id, "FAILED")


async def until_counted(world: World, crashes: int, nodes: int, request_id: str) -> None:
    async def is_so() -> bool:
        (row,) = await world.rows(COUNTS, id=request_id)
        return tuple(row) == (crashes, nodes)

    await eventually(is_so, what=f"{crashes} crashes and {nodes} lost nodes of {request_id}")


@pytest.mark.parametrize("is_known_first", [True, False], ids=["known", "reported"])
async def test_a_fourth_engine_crash_ends_a_request_whatever_it_delivered(
    world: World, is_known_first: bool
) -> None:
    world.timing = SLOW_TO_LOSE
    await world.restart_leader()
    await world.add_node("node-1")
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")

    for number in range(1, 5):
        endpoint_id = await serving(world)
        if is_known_first:
            await fail(world, endpoint_id)
            await world.gateway.resubmit(model_id, "request-1", has_progressed=True)
        else:
            await report_first(world, model_id, endpoint_id)
            await crash(world, endpoint_id)
        await until_counted(world, number, 0, "request-1")

    await eventually(lambda: "request-1" in world.gateway.refused, what="the end")
    refusal = world.gateway.refused["request-1"]
    assert refusal.code == "worker_crashed"
    assert refusal.message == "4 engines crashed while they served this request"
    assert await world.value("SELECT outcome FROM requests") == "worker_crashed"


async def test_a_lost_node_is_no_crash_and_the_third_ends_the_request(world: World) -> None:
    node = await world.add_node("node-1")
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")

    for number in range(1, 4):
        endpoint_id = await serving(world)
        node.agent.restart()
        await world.until_state(endpoint_id, "FAILED")
        await world.gateway.resubmit(model_id, "request-1")
        await until_counted(world, 0, number, "request-1")

    await eventually(lambda: "request-1" in world.gateway.refused, what="the end")
    refusal = world.gateway.refused["request-1"]
    assert refusal.code == "worker_crashed"
    assert refusal.message == "3 nodes were lost while they served this request"


async def test_a_request_that_lost_three_crashes_and_two_nodes_is_still_served(
    world: World,
) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")

    for cause in (FELT, KILLED, KILLED, FELT, KILLED):
        endpoint_id = await serving(world)
        await fail(world, endpoint_id, cause)
        await world.gateway.resubmit(model_id, "request-1")

    await until_counted(world, 3, 2, "request-1")
    await serving(world)
    assert "request-1" not in world.gateway.refused


async def test_an_endpoint_counts_once_however_often_it_is_reported(world: World) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model()
    endpoint_id = await world.start_endpoint(model_id)
    await fail(world, endpoint_id)

    for attempt in range(2, 7):
        lost = {"attempt": attempt, "lost_endpoint_id": endpoint_id}
        await world.gateway.submit(model_id, request_id="request-1", **lost)

    await until_counted(world, 1, 0, "request-1")
    await world.until("SELECT count(*) FROM request_losses WHERE kind IS NULL", 0)
    await until_counted(world, 1, 0, "request-1")


async def test_an_endpoint_that_was_reported_lost_and_lives_counts_as_nothing(
    world: World,
) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model()
    endpoint_id = await world.start_endpoint(model_id)

    await world.gateway.resubmit(model_id, "request-1")

    await world.until("SELECT kind FROM request_losses", "other")
    assert await world.assigned("request-1") == endpoint_id
    await world.require_nothing_counted()


async def test_a_new_leader_counts_what_was_reported_to_the_one_before(world: World) -> None:
    world.timing = SLOW_TO_LOSE
    await world.restart_leader()
    await world.add_node("node-1")
    model_id = await world.add_model()
    endpoint_id = await world.start_endpoint(model_id)
    await report_first(world, model_id, endpoint_id)
    await world.leader.kill()
    await crash(world, endpoint_id)

    await world.start_leader()

    await until_counted(world, 1, 0, "request-1")


async def test_a_start_that_fails_counts_only_after_a_crash(world: World) -> None:
    node = await world.add_node("node-1")
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")
    first = await serving(world)
    await world.gateway.submit(model_id, request_id="request-2")
    node.behaviour.readies_workers = False
    await fail(world, first)
    await world.gateway.resubmit(model_id, "request-1")
    world.gateway.assigned.pop("request-2", None)
    await world.gateway.submit(model_id, request_id="request-2", attempt=2)
    starting = await world.assigned("request-1")
    assert await world.assigned("request-2") == starting

    await fail(world, starting)
    node.behaviour.readies_workers = True
    for name in ("request-1", "request-2"):
        await world.gateway.resubmit(model_id, name)

    await until_counted(world, 2, 0, "request-1")
    await world.until("SELECT count(*) FROM request_losses WHERE kind IS NULL", 0)
    await until_counted(world, 0, 0, "request-2")
