"""Which of a node's workers are named as stopped, and which are only missing."""

from tests.integration.scheduler.world import World
from tests.support.waiting import eventually


async def test_a_worker_that_shall_stop_is_named_until_its_node_has_stopped_it(
    world: World,
) -> None:
    node = await world.add_node("node-1")
    node.behaviour.stops_undesired = False
    model_id = await world.add_model(keep_alive_s=0.1)
    endpoint_id = await world.start_endpoint(model_id)
    (worker_id,) = node.agent.started
    await world.finish("request-1")

    await eventually(
        lambda: worker_id in node.agent.seen[-1].stopped_workers, what="its name as stopped"
    )
    assert await world.value("SELECT count(*) FROM reservations") == 1
    epoch = (await world.restart_leader()).leadership.epoch
    await eventually(
        lambda: node.agent.seen[-1].leader_epoch == epoch, what="what the new leader wants"
    )
    assert worker_id in node.agent.seen[-1].stopped_workers
    del node.agent.workers[worker_id]
    await world.until_state(endpoint_id, "STOPPED")
    node.agent.seen.clear()
    await world.gateway.submit(model_id, request_id="request-2")
    await world.assigned("request-2")

    assert node.agent.seen and not any(told.stopped_workers for told in node.agent.seen)


async def test_a_worker_on_record_as_lost_that_comes_back_is_named(world: World) -> None:
    node = await world.add_node("node-1")
    model_id = await world.add_model()
    endpoint_id = await world.start_endpoint(model_id)
    (worker_id,) = node.agent.started
    node.behaviour.is_silent = True
    await world.until_state(endpoint_id, "FAILED")
    await world.until("SELECT count(*) FROM reservations", 0)

    node.behaviour.is_silent = False

    await eventually(lambda: worker_id not in node.agent.workers, what="its end")
    assert any(worker_id in told.stopped_workers for told in node.agent.seen)


async def test_workers_that_an_older_database_does_not_know_are_not_stopped_by_name(
    world: World,
) -> None:
    node = await world.add_node("node-1")
    model_id = await world.add_model()
    await world.start_endpoint(model_id)
    (worker_id,) = node.agent.started
    await world.leaders[-1].kill()

    for table in ("requests", "reservations", "fetches", "endpoint_members", "workers"):
        await world.execute(f"DELETE FROM {table}")
    await world.execute("DELETE FROM endpoints")
    epoch = (await world.restart_leader()).leadership.epoch
    await eventually(
        lambda: node.agent.seen[-1].leader_epoch == epoch, what="what the new leader wants"
    )

    assert node.agent.seen[-1].workers == ()
    assert worker_id not in node.agent.seen[-1].stopped_workers
    assert worker_id in node.agent.workers
