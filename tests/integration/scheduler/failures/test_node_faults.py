"""A node's fault costs neither the model its good name nor the cluster start after start."""

from dataclasses import replace

from libs.common.causes import Cause, CauseKind
from libs.common.states import WorkerState
from services.scheduler.policy.failures.node_faults import FIRST_DELAY_S
from tests.integration.scheduler.simulated import HEARTBEAT_S, SimulatedNode
from tests.integration.scheduler.starts.test_pipeline import specs, start_pipeline
from tests.integration.scheduler.world import World
from tests.support.waiting import eventually

QUIET_S = 2.0  # longer than a busy machine holds up heartbeats
NUM_BEATS = int(1.25 * QUIET_S / HEARTBEAT_S)  # until a silent node is a quiet one
CLOCK_SLACK_S = 0.2  # rows have the database's clock, decisions the leader's


async def fail_worker(node: SimulatedNode, worker_id: str, cause: Cause) -> None:
    node.agent.change(worker_id, state=WorkerState.FAILED, cause=cause)
    await node.beat()


async def test_a_worker_that_dies_of_its_fetch_before_the_fetcher_speaks_is_no_failed_start(
    world: World,
) -> None:
    world.timing = replace(world.timing, echo_grace_s=30.0)
    await world.restart_leader()
    node = await world.add_node("node-1")
    node.behaviour.completes_fetches = False
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")
    endpoint_id = await world.assigned("request-1")
    await eventually(lambda: node.fetcher.fetches and node.agent.workers, what="the start")
    (worker_id,) = node.agent.workers

    without = Cause.of(CauseKind.WEIGHTS_UNAVAILABLE, detail="the host cache has no room")
    await fail_worker(node, worker_id, without)
    beats = node.agent.sequence
    await eventually(lambda: node.agent.sequence > beats + 4, what="a while without its fetcher")
    assert await world.endpoint_state(endpoint_id) == "STARTING"
    node.behaviour.has_full_cache = True

    await world.until_state(endpoint_id, "FAILED")
    cause = await world.value("SELECT cause FROM endpoints WHERE id=:id", id=endpoint_id)
    assert cause.startswith("the fetch for worker")
    assert await world.value("SELECT num_failed_starts FROM models") == 0


async def test_when_every_node_has_the_fault_starts_come_slower_and_a_good_node_at_once(
    world: World,
) -> None:
    faulty = await world.add_node("node-1")
    faulty.behaviour.has_full_cache = True
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")

    await world.until("SELECT count(*) >= 4 FROM cold_starts", True)
    starts = await world.rows("SELECT started_at FROM cold_starts ORDER BY started_at")
    third, fourth = starts[2].started_at, starts[3].started_at
    assert (fourth - third).total_seconds() >= FIRST_DELAY_S - CLOCK_SLACK_S
    assert await world.value("SELECT num_failed_starts FROM models") == 0
    assert await world.value("SELECT state FROM requests") in ("QUEUED", "ASSIGNED")

    good = await world.add_node("node-2")
    await eventually(lambda: good.agent.started, what="a start on the good node")


async def test_a_node_that_became_silent_with_the_one_that_failed_is_not_planned_with(
    world: World,
) -> None:
    world.timing = replace(
        world.timing, node_quiet_s=QUIET_S, node_stale_s=60.0, node_lost_s=60.0, gateway_lost_s=60.0
    )
    await world.restart_leader()
    failed = await start_pipeline(world)
    for i in range(2):
        await world.add_node(f"spare-{i}")
    await world.until_heard(6)
    root = specs(world)[2].worker_id
    at = {id_: node for node in world.nodes.values() for id_ in node.agent.workers}
    silent = at[specs(world)[1].worker_id]
    silent.behaviour.is_silent = True
    witness = at[root]
    beats = witness.agent.sequence
    await eventually(lambda: witness.agent.sequence > beats + NUM_BEATS, what="a while without it")

    await fail_worker(witness, root, Cause.of(CauseKind.PROCESS_EXITED, signal="SIGKILL"))

    await world.until_state(failed, "FAILED")
    await world.until("SELECT count(*) FROM endpoints WHERE state = 'PIPELINED'", 1)
    used = await world.rows("SELECT node_id FROM workers WHERE endpoint_id <> :id", id=failed)
    assert silent.node_id not in {row.node_id for row in used}


async def test_a_stage_that_falls_silent_with_its_node_is_no_failed_start(world: World) -> None:
    world.timing = replace(
        world.timing, node_quiet_s=QUIET_S, node_lost_s=60.0, gateway_lost_s=60.0
    )
    await world.restart_leader()
    for i in range(4):
        node = await world.add_node(f"node-{i}")
        node.behaviour.completes_fetches = False
    await world.until_heard(4)
    model_id = await world.add_model(max_pipeline_size=4)
    await world.gateway.submit(model_id, request_id="request-1")
    endpoint_id = await world.assigned("request-1")
    await eventually(lambda: len(specs(world)) == 4, what="its stages")
    ring = specs(world)
    at = {id_: node for node in world.nodes.values() for id_ in node.agent.workers}
    silent, witness = at[ring[2].worker_id], at[ring[1].worker_id]
    silent.behaviour.is_silent = True
    beats = witness.agent.sequence
    await eventually(lambda: witness.agent.sequence > beats + NUM_BEATS, what="a while without it")

    for stage in (1, 3):
        felt = Cause.of(CauseKind.NEIGHBOUR_LOST, own_stage=stage, stage=2, detail="silent")
        await fail_worker(at[ring[stage].worker_id], ring[stage].worker_id, felt)

    await world.until_state(endpoint_id, "FAILED")
    cause = await world.value("SELECT cause FROM endpoints WHERE id=:id", id=endpoint_id)
    assert f"node {silent.node_id} with worker" in cause
    assert await world.value("SELECT num_failed_starts FROM models") == 0
