"""A start that replaces another one belongs to the same request, and to its trace."""

import pytest

from libs.common.causes import Cause, CauseKind
from libs.common.states import WorkerState
from tests.integration.scheduler.world import World
from tests.support.waiting import eventually

KILLED = Cause.of(CauseKind.PROCESS_EXITED, signal="SIGKILL")

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STARTS = "SELECT count(*) FROM cold_starts"
OF_REQUEST = "SELECT count(*) FROM cold_starts WHERE request_id='request-1' AND traceparent=:trace"


def last_phase(world: World) -> str | None:
    return world.gateway.progressed[-1].phase if world.gateway.progressed else None


@pytest.mark.parametrize("is_leader_new", [False, True])
async def test_a_replacement_is_part_of_the_waiting_requests_trace(
    world: World, is_leader_new: bool
) -> None:
    node = await world.add_node("node-1")
    world.leader.controller.submissions.traces.remember("request-1", TRACEPARENT)
    model_id = await world.add_model()
    await world.start_endpoint(model_id)

    if is_leader_new:
        await world.restart_leader()
    (worker_id,) = node.agent.workers
    node.agent.change(worker_id, state=WorkerState.FAILED, cause=KILLED)

    await world.until(STARTS, 2)
    assert await world.value(OF_REQUEST, trace=TRACEPARENT) == 2


async def test_a_request_names_the_start_it_waited_for_last_and_a_warm_one_names_none(
    world: World,
) -> None:
    node = await world.add_node("node-1")
    model_id = await world.add_model()
    await world.start_endpoint(model_id)
    (worker_id,) = node.agent.workers
    node.agent.change(worker_id, state=WorkerState.FAILED, cause=KILLED)
    await world.until(STARTS, 2)

    await world.gateway.resubmit(model_id, "request-1")
    second = await world.assigned("request-1")
    await world.until_state(second, "STANDALONE")
    await world.gateway.submit(model_id, request_id="warm")
    await world.assigned("warm")

    waited_for = "SELECT cold_start_id FROM requests WHERE id=:id"
    start = await world.value("SELECT id FROM cold_starts WHERE endpoint_id=:id", id=second)
    assert await world.value(waited_for, id="request-1") == start
    assert await world.value(waited_for, id="warm") is None


async def test_a_request_remembers_when_it_was_assigned_first(world: World) -> None:
    node = await world.add_node("node-1")
    model_id = await world.add_model()
    await world.start_endpoint(model_id)
    first_at = await world.value("SELECT assigned_at FROM requests")
    (worker_id,) = node.agent.workers
    node.agent.change(worker_id, state=WorkerState.FAILED, cause=KILLED)
    await world.until(STARTS, 2)

    await world.gateway.resubmit(model_id, "request-1")
    await world.until_state(await world.assigned("request-1"), "STANDALONE")

    assert first_at is not None
    assert await world.value("SELECT assigned_at FROM requests") == first_at


async def test_who_waits_for_a_start_that_failed_is_told_that_the_request_waits_again(
    world: World,
) -> None:
    node = await world.add_node("node-1")
    node.behaviour.readies_workers = False
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")
    dead = await world.assigned("request-1")
    await eventually(lambda: last_phase(world) == "starting", what="starting")

    (worker_id,) = node.agent.workers
    node.agent.change(worker_id, state=WorkerState.FAILED, cause=KILLED)
    await world.until_state(dead, "FAILED")

    await eventually(lambda: last_phase(world) == "queued", what="queued again")
