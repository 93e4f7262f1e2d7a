"""Several stages, one endpoint: linked in a ring, served, failed and freed together."""

from typing import Any

from libs.common.bus.messages import WorkerSpec
from libs.common.causes import Cause, CauseKind
from libs.common.states import WorkerState
from tests.integration.scheduler.world import MODEL_BYTES, World
from tests.support.waiting import eventually

NUM_STAGES = 4


async def four_nodes(world: World) -> None:
    for i in range(NUM_STAGES):
        await world.add_node(f"node-{i}")
    await world.until_heard(len(world.nodes))


def specs(world: World) -> dict[int, WorkerSpec]:
    """What the nodes were told last, by stage."""
    accepted = [n.agent.accepted for n in world.nodes.values() if n.agent.accepted is not None]
    return {spec.stage_index: spec for desired in accepted for spec in desired.workers}


async def start_pipeline(world: World, **values: Any) -> str:
    await four_nodes(world)
    model_id = await world.add_model(max_pipeline_size=NUM_STAGES, **values)
    await world.gateway.submit(model_id, request_id="request-1")
    endpoint_id = await world.assigned("request-1")
    await world.until_state(endpoint_id, "PIPELINED")
    return endpoint_id


async def test_four_stages_on_four_nodes_are_linked_in_a_ring_and_serve(world: World) -> None:
    endpoint_id = await start_pipeline(world)

    ring = specs(world)
    assert await world.value("SELECT count(DISTINCT node_id) FROM workers") == NUM_STAGES
    for index, spec in ring.items():
        before, after = ring[(index - 1) % NUM_STAGES], ring[(index + 1) % NUM_STAGES]
        assert spec.previous is not None and spec.next is not None
        assert (spec.previous.worker_id, spec.next.worker_id) == (before.worker_id, after.worker_id)
    assert len({spec.kv_tokens for spec in ring.values()}) == 1
    assert ring[0].layers.first_layer == 0 and ring[3].layers.last_layer == 4
    assert world.gateway.assigned["request-1"].endpoint_id == endpoint_id


async def test_as_many_workers_as_the_model_says_reserve_memory_for_all_of_it(
    world: World,
) -> None:
    await start_pipeline(world, full_memory_workers=3)

    full = "SELECT count(*) FROM reservations WHERE device_bytes = :whole"
    assert await world.value(full, whole=MODEL_BYTES) == 3
    assert await world.value("SELECT count(*) FROM reservations") == NUM_STAGES
    assert await world.value("SELECT count(*) FROM endpoint_members WHERE memory = 'full'") == 3


async def test_nobody_is_linked_before_both_its_neighbours_have_registered(world: World) -> None:
    await four_nodes(world)
    shy = world.nodes["node-2"]
    shy.behaviour.registers_workers = False
    model_id = await world.add_model(max_pipeline_size=NUM_STAGES)
    await world.gateway.submit(model_id, request_id="request-1")
    endpoint_id = await world.assigned("request-1")
    registered = "SELECT count(*) FROM workers WHERE state='REGISTERED' AND public_key IS NOT NULL"
    await world.until(registered, NUM_STAGES - 1)
    shy_stage = await world.value("SELECT stage_index FROM workers WHERE node_id='node-2'")

    linked = "SELECT count(*) FROM workers WHERE spec->>'next' IS NOT NULL"
    await world.until(linked, 2)
    unlinked = {i for i, spec in specs(world).items() if spec.next is None}
    assert {(shy_stage - 1) % NUM_STAGES, (shy_stage + 1) % NUM_STAGES} <= unlinked

    shy.behaviour.registers_workers = True
    await world.until_state(endpoint_id, "PIPELINED")


async def test_the_next_leader_links_what_the_old_one_left_and_starts_nothing_twice(
    world: World,
) -> None:
    await four_nodes(world)
    shy = world.nodes["node-1"]
    shy.behaviour.registers_workers = False
    model_id = await world.add_model(max_pipeline_size=NUM_STAGES)
    await world.gateway.submit(model_id, request_id="request-1")
    endpoint_id = await world.assigned("request-1")
    await eventually(lambda: shy.agent.workers)

    await world.leader.kill()
    shy.behaviour.registers_workers = True
    await world.start_leader()

    await world.until_state(endpoint_id, "PIPELINED")
    assert all(len(node.agent.started) == 1 for node in world.nodes.values())


async def test_one_dead_stage_fails_the_endpoint_and_frees_all_its_memory(world: World) -> None:
    endpoint_id = await start_pipeline(world)
    workers = {w.worker_id: n for n in world.nodes.values() for w in n.agent.workers.values()}
    ring = specs(world)

    echo, root = ring[0].worker_id, ring[2].worker_id
    cause = Cause.of(CauseKind.NEIGHBOUR_LOST, own_stage=0, stage=2)
    killed = Cause.of(CauseKind.PROCESS_EXITED, signal="SIGKILL")
    workers[echo].agent.change(echo, state=WorkerState.FAILED, cause=cause)
    workers[root].agent.change(root, state=WorkerState.FAILED, cause=killed)
    await workers[root].beat()

    await world.until_state(endpoint_id, "FAILED")
    await world.finish("request-1")
    await world.until(
        "SELECT count(*) FROM reservations JOIN workers ON workers.id=worker_id"
        " WHERE endpoint_id=:id", 0, id=endpoint_id,
    )  # fmt: skip


async def test_an_idle_pipeline_drains_and_leaves_nothing(world: World) -> None:
    endpoint_id = await start_pipeline(world, keep_alive_s=0.3)

    await world.finish("request-1")

    await world.until_state(endpoint_id, "STOPPED")
    assert await world.value("SELECT count(*) FROM reservations") == 0
    assert not any(node.agent.workers for node in world.nodes.values())
