"""Device memory: never promised twice, given back in full, moved to whoever waits."""

import asyncio
from dataclasses import replace

from tests.integration.scheduler.world import MODEL_BYTES, World
from tests.support.waiting import eventually

OVERBOOKED = (
    "SELECT count(*) FROM gpus JOIN (SELECT node_id, device_index, sum(device_bytes) AS used"
    " FROM reservations GROUP BY 1, 2) r ON r.node_id = gpus.node_id"
    " AND r.device_index = gpus.index WHERE r.used > gpus.memory_bytes"
)


async def test_two_models_that_fit_only_one_at_a_time_take_turns(world: World) -> None:
    await world.add_node("node-1", memory_bytes=MODEL_BYTES)
    models = [await world.add_model(name, keep_alive_s=0.2) for name in ("one", "two")]
    await asyncio.gather(
        *(world.gateway.submit(m, request_id=f"request-{i}") for i, m in enumerate(models))
    )

    first = await eventually(lambda: world.gateway.all_assigned, what="the first assignment")
    assert isinstance(first, list)
    served = first[0].request_id
    waiting = {"request-0": "request-1", "request-1": "request-0"}[served]
    await world.until_state(first[0].endpoint_id, "STANDALONE")
    assert waiting not in world.gateway.assigned
    assert await world.value("SELECT sum(device_bytes) FROM reservations") == MODEL_BYTES
    await world.finish(served)

    second = await world.assigned(waiting)
    await world.until_state(second, "STANDALONE")
    assert await world.value("SELECT sum(device_bytes) FROM reservations") == MODEL_BYTES


async def test_two_models_that_fill_a_device_to_the_byte_start_together(world: World) -> None:
    await world.add_node("node-1", memory_bytes=2 * MODEL_BYTES)
    models = [await world.add_model(name) for name in ("one", "two")]
    for i, model_id in enumerate(models):
        await world.gateway.submit(model_id, request_id=f"request-{i}")

    for i in range(2):
        await world.until_state(await world.assigned(f"request-{i}"), "STANDALONE")
    assert await world.value("SELECT sum(device_bytes) FROM reservations") == 2 * MODEL_BYTES


async def test_a_bfloat16_model_starts_on_the_node_that_computes_it(world: World) -> None:
    old = await world.add_node("old", nic_bytes_per_s=10**9)
    old.agent.devices = tuple(
        device.model_copy(update={"has_bfloat16": False}) for device in old.agent.devices
    )
    await old.beat()
    await world.until("SELECT count(*) FROM gpus WHERE NOT has_bfloat16", 1)
    await world.add_node("new")
    await world.until("SELECT count(*) FROM gpus WHERE has_bfloat16", 1)

    await world.start_endpoint(await world.add_model())

    assert await world.value("SELECT max(node_id) FROM workers") == "new"
    assert await world.value("SELECT count(DISTINCT node_id) FROM workers") == 1


async def test_a_device_that_shrank_under_its_reservations_keeps_nobody_from_the_others(
    world: World,
) -> None:
    node = await world.add_node("node-1", memory_bytes=MODEL_BYTES)
    models = [await world.add_model(name) for name in ("one", "two")]
    await world.start_endpoint(models[0], "request-1")
    (shrunk,) = node.agent.devices
    node.agent.devices = (
        shrunk.model_copy(update={"memory_bytes": MODEL_BYTES // 2}),
        shrunk.model_copy(update={"index": 1}),
    )
    await node.beat()

    await world.start_endpoint(models[1], "request-2")

    assert await world.value("SELECT max(device_index) FROM reservations") == 1


async def test_eight_cold_models_at_once_share_two_nodes_without_overbooking(world: World) -> None:
    for node_id in ("node-1", "node-2"):
        await world.add_node(node_id, memory_bytes=2 * MODEL_BYTES + MODEL_BYTES // 2)
    models = [await world.add_model(f"model-{i}", keep_alive_s=0.1) for i in range(8)]
    names = [f"request-{i}-{j}" for i in range(8) for j in range(3)]
    await asyncio.gather(
        *(
            world.gateway.submit(model_id, request_id=f"request-{i}-{j}")
            for i, model_id in enumerate(models)
            for j in range(3)
        )
    )

    finished: set[str] = set()
    while len(finished) < len(names):
        assert await world.value(OVERBOOKED) == 0
        await eventually(lambda: set(world.gateway.assigned) - finished, what="an assignment")
        for name in set(world.gateway.assigned) - finished:
            await world.finish(name)
            finished.add(name)

    await world.until("SELECT count(*) FROM reservations", 0)
    assert await world.value("SELECT count(*) FROM requests WHERE outcome='stop'") == len(names)


async def test_an_idle_endpoint_gives_way_before_its_keep_alive_is_over(world: World) -> None:
    await world.add_node("node-1", memory_bytes=MODEL_BYTES)
    idle, wanted = await world.add_model("idle"), await world.add_model("wanted")
    old = await world.start_endpoint(idle)
    await world.finish("request-1")

    await world.gateway.submit(wanted, request_id="request-2")

    await world.until_state(old, "STOPPED")
    await world.until_state(await world.assigned("request-2"), "STANDALONE")


async def test_a_busy_endpoint_is_never_taken_away(world: World) -> None:
    node = await world.add_node("node-1", memory_bytes=MODEL_BYTES)
    busy, wanted = await world.add_model("busy", keep_alive_s=0.1), await world.add_model("wanted")
    old = await world.start_endpoint(busy)
    (worker_id,) = node.agent.workers
    node.agent.change(worker_id, num_running=1)  # a warm request that only the worker knows
    await node.beat()  # before anything else makes the endpoint idle
    await world.finish("request-1")
    await world.gateway.submit(wanted, request_id="request-2")

    second = await world.add_node("node-2", memory_bytes=MODEL_BYTES)

    await eventually(lambda: second.agent.started, what="a start elsewhere")
    assert await world.endpoint_state(old) == "STANDALONE"


async def test_the_end_of_a_request_lets_the_next_one_in_at_once(world: World) -> None:
    world.timing = replace(world.timing, reconcile_interval_s=60.0, progress_interval_s=0.0)
    await world.restart_leader()
    await world.add_node("node-1", memory_bytes=MODEL_BYTES)
    model_id = await world.add_model("tiny", max_slots=1, max_endpoints=1)
    await world.start_endpoint(model_id, "request-1")
    await world.gateway.submit(model_id, request_id="request-2")
    await eventually(
        lambda: [told for told in world.gateway.progressed if told.request_id == "request-2"],
        what="the round after which nothing more is decided",
    )

    await world.finish("request-1")
    await world.gateway.tell_ended("request-1")

    await world.assigned("request-2")


async def test_a_burst_gets_as_many_endpoints_as_the_model_allows(world: World) -> None:
    for node_id in ("node-1", "node-2", "node-3"):
        await world.add_node(node_id, memory_bytes=MODEL_BYTES)
    model_id = await world.add_model(max_slots=2, max_endpoints=2)
    for i in range(6):
        await world.gateway.submit(model_id, request_id=f"request-{i}")

    await world.until("SELECT count(*) FROM requests WHERE state='ASSIGNED'", 4)
    await world.until("SELECT count(*) FROM endpoints WHERE state='STANDALONE'", 2)
    assert await world.value("SELECT count(DISTINCT node_id) FROM workers") == 2


async def test_the_second_start_of_a_model_prefers_the_node_that_has_its_weights(
    world: World,
) -> None:
    for node_id in ("node-1", "node-2", "node-3"):
        await world.add_node(node_id)
    model_id = await world.add_model(keep_alive_s=0.1)
    first = await world.start_endpoint(model_id)
    await world.finish("request-1")
    await world.until_state(first, "STOPPED")

    await world.start_endpoint(model_id, "request-2")

    assert await world.value("SELECT count(DISTINCT node_id) FROM workers") == 1


async def test_a_node_counts_that_came_while_nobody_waited(world: World) -> None:
    # Every round tells, because none comes by itself.
    world.timing = replace(world.timing, reconcile_interval_s=60.0, progress_interval_s=0.0)
    await world.restart_leader()
    await world.add_node("small", memory_bytes=MODEL_BYTES)
    model_id = await world.add_model("tiny", max_slots=1)
    await world.start_endpoint(model_id, "request-1")
    await world.gateway.submit(model_id, request_id="request-2")
    await world.restart_leader()  # it looks at the devices for the one that waits
    await world.finish("request-1")
    await world.gateway.tell_ended("request-1")
    await world.assigned("request-2")
    await world.finish("request-2")
    await world.gateway.tell_ended("request-2")

    await world.add_node("large", memory_bytes=2 * MODEL_BYTES)
    await world.until("SELECT count(*) FROM gpus WHERE memory_bytes > 0", 2)
    busy, wanted = [await world.add_model(n, kv_cache_bytes=MODEL_BYTES) for n in ("busy", "next")]
    await world.start_endpoint(busy, "request-3")
    await world.gateway.submit(wanted, request_id="request-4")
    await eventually(
        lambda: (
            [told for told in world.gateway.progressed if told.request_id == "request-4"]
            or world.gateway.refused
        ),
        what="the round that looked at it",
    )

    assert not world.gateway.refused
    assert await world.value("SELECT state FROM requests WHERE id='request-4'") == "QUEUED"
