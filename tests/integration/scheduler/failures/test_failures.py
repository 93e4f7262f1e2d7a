"""Whatever dies, the waiting requests get the next endpoint and no memory stays reserved."""

from libs.common.bus.messages import SubmitRefused
from libs.common.causes import Cause, CauseKind
from libs.common.states import FetchState, WorkerState
from tests.integration.scheduler.world import MODEL_BYTES, World
from tests.support.waiting import eventually

EXITED = Cause.of(CauseKind.PROCESS_EXITED, code=9)
NO_ENGINE = Cause.of(CauseKind.ENGINE_FAILED, detail="out of file descriptors")


async def test_a_worker_that_dies_while_starting_is_replaced_and_its_cause_is_kept(
    world: World,
) -> None:
    node = await world.add_node("node-1")
    node.behaviour.fails_workers = EXITED
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")
    dead = await world.assigned("request-1")
    await world.until_state(dead, "FAILED")

    node.behaviour.fails_workers = None
    await world.gateway.resubmit(model_id, "request-1")
    alive = await world.assigned("request-1")
    await world.until_state(alive, "STANDALONE")

    cause = await world.value("SELECT cause FROM endpoints WHERE id=:id", id=dead)
    assert "node-1" in cause and "exited with code 9" in cause
    assert await world.value("SELECT sum(device_bytes) FROM reservations") == MODEL_BYTES


async def test_the_next_start_does_not_wait_for_the_gateway_to_notice(world: World) -> None:
    node = await world.add_node("node-1")
    model_id = await world.add_model()
    await world.start_endpoint(model_id)

    worker_id = node.agent.started[0]
    node.agent.change(worker_id, state=WorkerState.FAILED, cause=EXITED)

    await eventually(lambda: len(node.agent.started) == 2, what="the second start")
    assert await world.value("SELECT attempt FROM requests") == 1


async def test_a_failed_fetch_fails_the_start_with_the_fetchers_words(world: World) -> None:
    node = await world.add_node("node-1")
    node.behaviour.completes_fetches = False
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")
    endpoint_id = await world.assigned("request-1")
    await eventually(lambda: node.fetcher.fetches)

    (fetch_id,) = node.fetcher.fetches
    corrupt = Cause.of(CauseKind.UNIT_CORRUPT, key="units/ab")
    node.fetcher.change(fetch_id, state=FetchState.FAILED, cause=corrupt)

    await world.until_state(endpoint_id, "FAILED")
    (row,) = await world.rows(
        "SELECT cause, cause_kind FROM cold_starts WHERE endpoint_id=:id", id=endpoint_id
    )
    assert "units/ab: the stored bytes do not match their digest" in row.cause
    assert row.cause_kind == "unit_corrupt"


async def test_a_fetch_without_room_in_the_host_cache_is_the_nodes_fault_and_not_the_models(
    world: World,
) -> None:
    full = await world.add_node("node-1")
    full.behaviour.completes_fetches = False
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")
    endpoint_id = await world.assigned("request-1")
    await eventually(lambda: full.fetcher.fetches)
    other = await world.add_node("node-2")
    await world.until_heard(2)

    (fetch_id,) = full.fetcher.fetches
    cause = Cause.of(CauseKind.HOST_CACHE_FULL, needed_bytes=7)
    full.fetcher.change(fetch_id, state=FetchState.FAILED, cause=cause)

    await world.until_state(endpoint_id, "FAILED")
    await eventually(lambda: other.agent.started, what="a start on the other node")
    assert await world.value("SELECT num_failed_starts FROM models") == 0


async def test_an_agents_new_boot_never_sees_the_workers_of_the_old_one(world: World) -> None:
    node = await world.add_node("node-1")
    model_id = await world.add_model()
    endpoint_id = await world.start_endpoint(model_id)
    (old_worker,) = node.agent.started
    node.agent.seen.clear()

    node.agent.restart()

    await world.until_state(endpoint_id, "FAILED")
    await eventually(lambda: node.agent.started, what="the next worker")
    told = {worker.worker_id for desired in node.agent.seen for worker in desired.workers}
    assert old_worker not in told
    assert {desired.boot_id for desired in node.agent.seen} == {node.agent.boot_id}
    assert "restarted" in await world.value(
        "SELECT cause FROM endpoints WHERE id=:id", id=endpoint_id
    )
    assert await world.value("SELECT num_failed_starts FROM models") == 0


async def test_a_restarted_fetcher_alone_fails_nothing_and_goes_on(world: World) -> None:
    node = await world.add_node("node-1")
    node.behaviour.completes_fetches = False
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")
    endpoint_id = await world.assigned("request-1")
    await eventually(lambda: node.fetcher.fetches)

    node.fetcher.restart()
    await eventually(lambda: node.fetcher.fetches, what="the fetch after the restart")
    node.behaviour.completes_fetches = True

    await world.until_state(endpoint_id, "STANDALONE")
    assert len(node.agent.started) == 1


async def test_a_silent_node_is_replaced_and_gets_nothing_until_its_old_worker_has_stopped(
    world: World,
) -> None:
    lost = await world.add_node("node-1")
    model_id = await world.add_model()
    endpoint_id = await world.start_endpoint(model_id)
    lost.behaviour.is_silent = True
    await world.until_state(endpoint_id, "FAILED")
    assert await world.value("SELECT count(*) FROM reservations") == 0

    lost.behaviour.stops_undesired = False
    lost.behaviour.is_silent = False
    await eventually(
        lambda: lost.agent.accepted is not None and not lost.agent.accepted.workers,
        what="the desired state without the old worker",
    )
    await world.gateway.resubmit(model_id, "request-1")
    seen = len(lost.agent.seen)
    assert (
        len(lost.agent.started) == 1
        and await world.value(
            "SELECT count(*) FROM endpoints WHERE state NOT IN ('FAILED', 'STOPPED')"
        )
        == 0
    )

    lost.agent.workers.clear()  # the old process is gone at last

    await eventually(lambda: len(lost.agent.started) == 2, what="a start on the node")
    assert len(lost.agent.seen) > seen


async def test_the_work_of_a_lost_node_goes_to_another_one(world: World) -> None:
    first = await world.add_node("node-1")
    model_id = await world.add_model()
    await world.start_endpoint(model_id)
    second = await world.add_node("node-2")

    first.behaviour.is_silent = True

    await eventually(lambda: second.agent.started, what="a start on the other node")


async def test_a_silent_bus_makes_nobody_lost(world: World) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model()
    endpoint_id = await world.start_endpoint(model_id)

    world.broker.is_down = True
    silence_s = 3 * world.timing.node_lost_s

    async def has_been_silent() -> bool:
        return bool(
            await world.value(
                "SELECT now() - max(agent_heard_at) > make_interval(secs => :s) FROM nodes",
                s=silence_s,
            )
        )

    await eventually(has_been_silent, what="the long silence")
    world.broker.is_down = False
    await world.gateway.submit(model_id, request_id="request-2")
    assert await world.assigned("request-2") == endpoint_id
    assert await world.value("SELECT count(*) FROM requests WHERE state='ENDED'") == 0


async def test_three_failed_starts_put_the_model_off_and_the_answer_names_the_cause(
    world: World,
) -> None:
    node = await world.add_node("node-1")
    node.behaviour.fails_workers = NO_ENGINE
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")

    await world.until("SELECT num_failed_starts FROM models", 3)
    reply = await world.gateway.submit(model_id)

    assert isinstance(reply.result, SubmitRefused)
    assert reply.result.code == "model_backing_off"
    assert "out of file descriptors" in reply.result.message
    assert reply.result.retry_after_s is not None and 5 <= reply.result.retry_after_s <= 10
    assert len(node.agent.started) == 3
    await world.until("SELECT count(*) FROM reservations", 0)


async def test_who_waited_when_the_model_is_put_off_is_told_the_cause_at_once(
    world: World,
) -> None:
    node = await world.add_node("node-1")
    node.behaviour.fails_workers = NO_ENGINE
    model_id = await world.add_model(max_slots=1)
    for name in ("request-1", "request-2"):
        await world.gateway.submit(model_id, request_id=name)

    names = ("request-1", "request-2")
    await eventually(lambda: world.gateway.refused.keys() == set(names), what="the refusals")
    for name in names:
        assert world.gateway.refused[name].code == "model_backing_off"
        assert (world.gateway.refused[name].retry_after_s or 0) >= 5
        assert "failed to start 3 times" in world.gateway.refused[name].message
        assert "out of file descriptors" in world.gateway.refused[name].message
    await world.until("SELECT count(*) FROM requests WHERE outcome='model_failed'", 2)
    await asked_again(world, model_id, "request-1", "model_backing_off")


async def asked_again(world: World, model_id: str, request_id: str, code: str) -> None:
    """The word of its end may have been lost: the request is told the same, and so is a new one."""
    for name in (request_id, "another"):
        reply = await world.gateway.submit(model_id, request_id=name)
        assert isinstance(reply.result, SubmitRefused)
        assert reply.result.code == code, name


async def test_a_failing_second_endpoint_does_not_end_the_requests_of_the_first(
    world: World,
) -> None:
    node = await world.add_node("node-1")
    model_id = await world.add_model(max_slots=1, max_endpoints=2)
    await world.start_endpoint(model_id)
    node.behaviour.fails_workers = NO_ENGINE

    await world.gateway.submit(model_id, request_id="request-2")
    await world.until("SELECT num_failed_starts FROM models", 3)
    await world.finish("request-1")
    await world.gateway.submit(model_id, request_id="request-2", attempt=2)

    first = world.gateway.assigned["request-1"].endpoint_id
    await world.until("SELECT endpoint_id FROM requests WHERE id='request-2'", first)
    assert not world.gateway.refused


async def test_when_the_backoff_is_over_the_model_starts_and_is_forgiven(world: World) -> None:
    node = await world.add_node("node-1")
    node.behaviour.fails_workers = NO_ENGINE
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")
    await world.until("SELECT num_failed_starts FROM models", 3)
    node.behaviour.fails_workers = None

    await world.execute("UPDATE models SET backoff_until = now()")
    await world.gateway.submit(model_id, request_id="request-2")

    await eventually(lambda: len(node.agent.started) == 4)
    await world.until("SELECT num_failed_starts FROM models", 0)


async def test_a_cold_start_nobody_waits_for_ends_unless_more_than_half_is_there(
    world: World,
) -> None:
    node = await world.add_node("node-1")
    node.behaviour.completes_fetches = False
    early, late = await world.add_model("early"), await world.add_model("late")
    await world.gateway.submit(early, request_id="request-early")
    await world.gateway.submit(late, request_id="request-late")
    ended = await world.assigned("request-early")
    kept = await world.assigned("request-late")
    await eventually(lambda: len(node.fetcher.fetches) == 2)
    of_kept = "SELECT id FROM fetches WHERE endpoint_id=:id"
    node.fetcher.change(await world.value(of_kept, id=kept), bytes_done=60)
    await node.beat()

    await world.gateway.cancel("request-late")
    await world.gateway.cancel("request-early")

    await world.until_state(ended, "STOPPED")
    assert await world.endpoint_state(kept) == "STARTING"
    node.behaviour.completes_fetches = True
    await world.until_state(kept, "STANDALONE")


async def test_an_endpoint_drains_only_when_its_last_request_has_ended(world: World) -> None:
    node = await world.add_node("node-1")
    model_id = await world.add_model()
    endpoint_id = await world.start_endpoint(model_id)
    (worker_id,) = node.agent.workers
    node.agent.change(worker_id, num_running=1)
    await world.execute("UPDATE models SET state='DELETING' WHERE id=:id", id=model_id)
    await eventually(
        lambda: node.agent.workers[worker_id].state is WorkerState.DRAINING, what="draining"
    )

    await world.finish("request-1")
    assert await world.endpoint_state(endpoint_id) == "DRAINING"
    assert worker_id in node.agent.workers
    node.agent.change(worker_id, num_running=0)

    await world.until_state(endpoint_id, "STOPPED")
    assert await world.value("SELECT count(*) FROM reservations") == 0


async def test_a_deleted_model_tells_those_who_wait(world: World) -> None:
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")

    await world.execute("UPDATE models SET state='DELETING' WHERE id=:id", id=model_id)

    await eventually(lambda: "request-1" in world.gateway.refused)
    assert world.gateway.refused["request-1"].code == "model_not_found"
    await asked_again(world, model_id, "request-1", "model_not_found")
    assert await world.value("SELECT outcome FROM requests") == "model_failed"


async def test_a_request_that_raced_with_the_drain_starts_a_new_endpoint(world: World) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model(keep_alive_s=0.2)
    old = await world.start_endpoint(model_id)
    await world.finish("request-1")
    await world.until_state(old, "DRAINING", "STOPPED")

    await world.gateway.submit(model_id, request_id="raced", attempt=2)

    new = await world.assigned("raced")
    assert new != old
    await world.until_state(new, "STANDALONE")
    await world.until_state(old, "STOPPED")


async def test_the_timeline_has_the_steps_of_everybody_who_took_part(world: World) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model()
    await world.start_endpoint(model_id)

    async def steps() -> set[tuple[str, str]]:
        rows = await world.rows("SELECT actor, name FROM cold_start_steps")
        return {(row.actor.split("/")[0], row.name) for row in rows}

    async def is_complete() -> bool:
        return {
            ("scheduler", "queue"),
            ("scheduler", "plan"),
            ("scheduler", "tell agent"),
            ("scheduler", "tell fetcher"),
        } <= await steps()

    await eventually(is_complete)
    (row,) = await world.rows(
        "SELECT request_id, ready_at, ended_at, weight_bytes FROM cold_starts"
    )
    assert row.request_id == "request-1" and row.ready_at and row.ended_at and row.weight_bytes
    assert await world.value("SELECT cold_start_id FROM requests") is not None


async def test_an_agent_that_restarts_while_a_round_waits_for_its_turn_is_noticed(
    world: World,
) -> None:
    node = await world.add_node("node-1")
    endpoint_id = await world.start_endpoint(await world.add_model())
    fenced = world.leader.controller.submissions.fenced

    async with fenced.transaction():
        beats = node.agent.sequence
        await eventually(lambda: node.agent.sequence > beats + 3, what="a round that waits")
        node.agent.restart()
        beats = node.agent.sequence
        await eventually(lambda: node.agent.sequence > beats + 1, what="words of the new boot")

    await world.until_state(endpoint_id, "FAILED")


async def test_a_model_that_cannot_be_decided_about_keeps_no_other_from_its_node(
    world: World,
) -> None:
    await world.add_node("node-1")
    broken = await world.add_model("broken")
    await world.start_endpoint(broken)
    await world.gateway.submit(broken, request_id="request-2")
    await world.assigned("request-2")
    await world.execute("UPDATE models SET max_slots = 0 WHERE id=:id", id=broken)
    await world.gateway.submit(broken, request_id="request-that-waits")

    await world.start_endpoint(await world.add_model("sound"), "request-3")
