"""A node on which a model failed is avoided for a while; one that only felt a neighbour's end is
not."""

from dataclasses import replace

from libs.common.causes import Cause, CauseKind
from libs.common.states import WorkerState
from tests.integration.scheduler.simulated import SimulatedNode
from tests.integration.scheduler.starts.test_pipeline import specs, start_pipeline
from tests.integration.scheduler.world import World

NEWEST = "SELECT node_id FROM workers ORDER BY created_at DESC LIMIT 1"


KILLED = Cause.of(CauseKind.PROCESS_EXITED, signal="SIGKILL")


def lost(own_stage: int, stage: int) -> Cause:
    return Cause.of(CauseKind.NEIGHBOUR_LOST, own_stage=own_stage, stage=stage, detail="silent")


async def fail_worker(node: SimulatedNode, cause: Cause, worker_id: str | None = None) -> None:
    node.agent.change(
        worker_id or next(iter(node.agent.workers)), state=WorkerState.FAILED, cause=cause
    )
    await node.beat()


async def test_the_node_is_avoided_until_its_time_is_over_although_it_has_the_weights(
    world: World,
) -> None:
    for name in ("node-1", "node-2"):
        await world.add_node(name)
    model_id = await world.add_model()
    await world.start_endpoint(model_id)
    first = await world.value(NEWEST)

    await fail_worker(world.nodes[first], KILLED)
    await world.until("SELECT count(*) FROM workers", 2)
    second = await world.value(NEWEST)
    await world.finish("request-1")
    await world.execute("UPDATE models SET keep_alive_s = 0")
    await world.until("SELECT count(*) FROM reservations", 0)
    age = "UPDATE endpoints SET ended_at = ended_at - make_interval(secs => :s)"
    await world.execute(age, s=world.timing.suspect_s)
    await world.restart_leader()  # which reads from rows what the one before it remembered
    world.nodes[second].fetcher.cached.clear()
    await world.until("SELECT count(*) FROM host_cache WHERE node_id=:node", 0, node=second)
    await world.start_endpoint(model_id, "request-3")

    assert second != first
    assert await world.value(NEWEST) == first


async def test_of_a_pipeline_only_the_node_where_it_began_is_avoided(world: World) -> None:
    world.timing = replace(world.timing, echo_grace_s=30.0)
    await world.restart_leader()
    for i in range(2):
        await world.add_node(f"spare-{i}")
    failed = await start_pipeline(world)
    ring = specs(world)
    at = {id_: node for node in world.nodes.values() for id_ in node.agent.workers}
    root, felt = ring[2].worker_id, (1, 3)
    guilty = at[root].node_id

    for stage in felt:
        await fail_worker(at[ring[stage].worker_id], lost(stage, 2), ring[stage].worker_id)
    assert await world.endpoint_state(failed) == "PIPELINED", "the root is not known yet"
    await fail_worker(at[root], KILLED, root)

    await world.until_state(failed, "FAILED")
    cause = await world.value("SELECT cause FROM endpoints WHERE id=:id", id=failed)
    assert "killed by SIGKILL" in cause and "neighbour" not in cause
    suspects = await world.rows(
        "SELECT node_id FROM workers w JOIN endpoints e ON e.id = w.endpoint_id"
        " WHERE w.id = e.guilty_worker_id"
    )
    assert [row.node_id for row in suspects] == [guilty]
    await world.until("SELECT count(*) FROM endpoints WHERE state = 'PIPELINED'", 1)
    used = await world.rows(
        "SELECT node_id FROM workers WHERE endpoint_id <> :id AND is_desired", id=failed
    )
    nodes = {row.node_id for row in used}
    assert guilty not in nodes
    assert {at[ring[stage].worker_id].node_id for stage in felt} <= nodes, "they have the weights"


async def test_a_stage_that_hangs_is_found_by_what_its_neighbours_say(world: World) -> None:
    failed = await start_pipeline(world)
    ring = specs(world)
    at = {id_: node for node in world.nodes.values() for id_ in node.agent.workers}

    for stage, other in ((1, 2), (3, 2), (0, 1)):
        await fail_worker(at[ring[stage].worker_id], lost(stage, other), ring[stage].worker_id)

    await world.until_state(failed, "FAILED")
    hung = ring[2].worker_id
    cause = await world.value("SELECT cause FROM endpoints WHERE id=:id", id=failed)
    assert f"worker {hung} on node {at[hung].node_id} hangs" in cause
    await world.until("SELECT cause FROM workers WHERE id=:id", cause, id=hung)
    (row,) = await world.rows(
        "SELECT cause_kind, cause_facts, guilty_worker_id FROM endpoints WHERE id=:id", id=failed
    )
    assert (row.cause_kind, row.guilty_worker_id) == ("stage_silent", hung)
    assert row.cause_facts["node_id"] == at[hung].node_id


async def test_what_becomes_of_a_worker_that_nobody_wants_any_more_is_no_failure(
    world: World,
) -> None:
    node = await world.add_node("node-1")
    node.behaviour.stops_undesired = False
    model_id = await world.add_model(keep_alive_s=0.1)
    endpoint_id = await world.start_endpoint(model_id)
    await world.finish("request-1")
    await world.until("SELECT count(*) FROM workers WHERE NOT is_desired", 1)

    (worker_id,) = node.agent.workers
    node.agent.change(worker_id, state=WorkerState.FAILED, cause=KILLED)

    await world.until_state(endpoint_id, "STOPPED")
    assert await world.value("SELECT cause FROM workers") is None
    assert await world.value("SELECT num_failed_starts FROM models") == 0
