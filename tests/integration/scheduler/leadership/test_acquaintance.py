"""A leader that has just begun knows a part of the cluster, and refuses nobody because of it."""

from dataclasses import replace

from libs.common.bus.messages import SubmitAccepted
from tests.integration.scheduler.world import MODEL_BYTES, World
from tests.support.waiting import eventually


async def test_what_does_not_fit_the_nodes_heard_so_far_may_wait_for_the_others(
    world: World,
) -> None:
    world.timing = replace(world.timing, acquaintance_s=60.0)
    await world.restart_leader()
    await world.add_node("node-1", memory_bytes=MODEL_BYTES - 1)
    await world.until("SELECT count(*) FROM gpus", 1)
    model_id = await world.add_model()

    reply = await world.gateway.submit(model_id, request_id="request-1")
    assert isinstance(reply.result, SubmitAccepted)
    await eventually(lambda: world.gateway.progressed, what="a round that could not place it")
    assert world.gateway.refused == {}
    await world.add_node("node-2", memory_bytes=MODEL_BYTES)

    await world.until_state(await world.assigned("request-1"), "STANDALONE")


async def test_a_deadline_that_the_nodes_heard_so_far_cannot_keep_is_no_reason_either(
    world: World,
) -> None:
    world.timing = replace(world.timing, acquaintance_s=60.0)
    await world.restart_leader()
    await world.add_node("node-1", nic_bytes_per_s=1000)
    await world.until_heard(1)
    model_id = await world.add_model()

    reply = await world.gateway.submit(model_id, remaining_ms=9_000)

    assert isinstance(reply.result, SubmitAccepted)
