"""Many requests, many models, few nodes: one start for each need, in turn, and nobody forgotten."""

import asyncio
from dataclasses import replace

import pytest

from libs.common.bus.messages import SubmitAccepted, SubmitRefused
from tests.integration.scheduler.starts.test_capacity import OVERBOOKED
from tests.integration.scheduler.world import MODEL_BYTES, WEIGHT_BYTES, World
from tests.support.waiting import eventually

NUM_STARTS = "SELECT count(*) FROM cold_starts"


async def test_a_burst_for_one_cold_model_makes_exactly_one_start(world: World) -> None:
    for i in range(4):
        await world.add_node(f"node-{i}")
    model_id = await world.add_model(max_slots=8, max_pipeline_size=4)

    await asyncio.gather(*(world.gateway.submit(model_id, request_id=f"r-{i}") for i in range(40)))

    finished: set[str] = set()
    while len(finished) < 40:
        await eventually(lambda: world.gateway.assigned.keys() - finished, what="an assignment")
        for name in world.gateway.assigned.keys() - finished:
            await world.finish(name)
            finished.add(name)
    assert len({a.endpoint_id for a in world.gateway.all_assigned}) == 1
    assert await world.value(NUM_STARTS) == 1


async def test_an_endpoint_stays_while_its_model_has_a_queue_however_short_its_keep_alive(
    world: World,
) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model(max_slots=1, keep_alive_s=0.0)
    names = [f"r-{i}" for i in range(6)]

    for name in names:
        await world.gateway.submit(model_id, request_id=name)
    for name in names:
        await world.until_state(await world.assigned(name), "STANDALONE")
        await world.finish(name)

    assert await world.value(NUM_STARTS) == 1


async def test_eight_cold_models_contend_for_four_nodes_and_each_starts_once(world: World) -> None:
    for i in range(4):
        await world.add_node(f"node-{i}", memory_bytes=MODEL_BYTES * 2 // 5)
    models = [
        await world.add_model(f"model-{i}", max_pipeline_size=4, keep_alive_s=0.1) for i in range(8)
    ]
    await asyncio.gather(
        *(world.gateway.submit(model, request_id=f"r-{i}") for i, model in enumerate(models))
    )

    finished: set[str] = set()
    while len(finished) < len(models):
        assert await world.value(OVERBOOKED) == 0
        await eventually(lambda: world.gateway.assigned.keys() - finished, what="an assignment")
        for name in world.gateway.assigned.keys() - finished:
            await world.until_state(world.gateway.assigned[name].endpoint_id, "PIPELINED")
            await world.finish(name)
            finished.add(name)

    await world.until("SELECT count(*) FROM reservations", 0)
    assert await world.value(NUM_STARTS) == len(models), "none was given up and begun again"
    assert await world.value("SELECT count(*) FROM endpoints WHERE state <> 'STOPPED'") == 0


async def test_models_that_wait_for_room_get_it_in_the_order_in_which_they_came(
    world: World,
) -> None:
    await world.add_node("node-1", memory_bytes=MODEL_BYTES)
    models = [await world.add_model(f"model-{i}", keep_alive_s=0.0) for i in range(6)]
    for i, model in enumerate(reversed(models)):
        await world.gateway.submit(model, request_id=f"r-{i}")

    for i in range(len(models)):
        await world.assigned(f"r-{i}")
        await world.finish(f"r-{i}")

    served = [assigned.request_id for assigned in world.gateway.all_assigned]
    assert served == [f"r-{i}" for i in range(len(models))]


async def test_room_that_is_being_made_for_a_large_model_is_not_given_to_a_small_one_behind_it(
    world: World,
) -> None:
    node = await world.add_node("node-1", memory_bytes=2 * MODEL_BYTES)
    idle = [await world.add_model(f"idle-{i}") for i in range(2)]
    for i, model in enumerate(idle):
        await world.start_endpoint(model, f"idle-{i}")
        await world.finish(f"idle-{i}")
    node.behaviour.stops_undesired = False  # the memory is not free for a while
    large = await world.add_model("large", kv_cache_bytes=MODEL_BYTES // 2)
    small = await world.add_model("small", kv_cache_bytes=1024)
    await world.gateway.submit(large, request_id="large")
    await world.until("SELECT count(*) FROM workers WHERE NOT is_desired", 2)
    await world.gateway.submit(small, request_id="small")

    node.agent.workers.popitem()  # room for the small one, not yet for the large one
    await world.until("SELECT count(*) FROM reservations", 1)
    await world.until("SELECT count(*) FROM requests WHERE state = 'QUEUED'", 2)
    node.behaviour.stops_undesired = True
    node.agent.workers.clear()

    await world.assigned("large")
    assert "small" not in world.gateway.assigned


async def test_a_full_queue_says_when_to_come_again(world: World) -> None:
    model_id = await world.add_model(max_queue=3)

    replies = [await world.gateway.submit(model_id) for _ in range(5)]

    assert [type(reply.result) for reply in replies] == 3 * [SubmitAccepted] + 2 * [SubmitRefused]
    refused = replies[-1].result
    assert isinstance(refused, SubmitRefused)
    assert refused.code == "queue_full" and refused.retry_after_s is not None


async def test_a_deadline_that_no_start_can_keep_is_refused_and_a_warm_model_keeps_it(
    world: World,
) -> None:
    await world.add_node("node-1", nic_bytes_per_s=-(-WEIGHT_BYTES // 10))
    await world.until_heard(1)
    model_id = await world.add_model()

    hasty = await world.gateway.submit(model_id, remaining_ms=9_000)
    patient = await world.gateway.submit(model_id, request_id="patient", remaining_ms=30_000)
    await world.assigned("patient")
    lucky = await world.gateway.submit(model_id, remaining_ms=9_000)

    assert isinstance(hasty.result, SubmitRefused)
    assert (hasty.result.code, hasty.result.retry_after_s) == ("deadline_too_short", None)
    assert hasty.result.needed_s == pytest.approx(10, abs=0.1)
    assert "needs at least 10.0 s to start, on 1 node" in hasty.result.message
    assert isinstance(patient.result, SubmitAccepted)
    assert isinstance(lucky.result, SubmitAccepted)


async def test_fetches_that_no_fetcher_has_spoken_of_share_the_network_too(world: World) -> None:
    world.timing = replace(world.timing, node_stale_s=60.0, node_lost_s=60.0)
    await world.restart_leader()
    fast = await world.add_node("fast", nic_bytes_per_s=50_000_000)
    slow = await world.add_node("slow", nic_bytes_per_s=30_000_000)
    await world.until_heard(2)
    fast.behaviour.is_silent = slow.behaviour.is_silent = True

    for i in range(4):
        model_id = await world.add_model(f"model-{i}")
        await world.gateway.submit(model_id, request_id=f"request-{i}")
        await world.until("SELECT count(*) FROM workers", i + 1)

    placed = [row.node_id for row in await world.rows("SELECT node_id FROM workers")]
    assert sorted(placed) == ["fast", "fast", "fast", "slow"]


async def test_idle_pipelines_make_room_on_all_their_devices_at_once(world: World) -> None:
    for i in range(4):
        await world.add_node(f"node-{i}", memory_bytes=MODEL_BYTES * 2 // 5)
    old = await world.add_model("old", max_pipeline_size=4)
    new = await world.add_model("new", max_pipeline_size=4)
    await world.gateway.submit(old, request_id="request-1")
    first = await world.assigned("request-1")
    await world.until_state(first, "PIPELINED")
    await world.finish("request-1")

    await world.gateway.submit(new, request_id="request-2")

    await world.until_state(first, "STOPPED")
    await world.until_state(await world.assigned("request-2"), "PIPELINED")
