"""Further workers with memory for the whole model become endpoints of their own."""

import pytest

from libs.common.causes import Cause, CauseKind
from libs.common.states import FetchPurpose, WorkerState
from tests.integration.scheduler.consolidation.pipelines import (
    NUM_STAGES,
    consolidating,
    entry,
    entry_seen,
    hold_fetches,
    serve,
)
from tests.integration.scheduler.simulated import SimulatedNode
from tests.integration.scheduler.world import MODEL_BYTES, World
from tests.support.waiting import eventually

KILLED = Cause.of(CauseKind.PROCESS_EXITED, signal="SIGKILL")
NUM_SLOTS = 2  # of each endpoint
SCALE_UPS = (
    "SELECT string_agg(state, ' ' ORDER BY started_at) FROM consolidations WHERE is_scale_up"
)
CHILDREN = "SELECT count(*) FROM endpoints WHERE parent_id IS NOT NULL AND state = 'STANDALONE'"
COLD_STARTS = "SELECT count(*) FROM cold_starts"


async def asked(world: World, num_requests: int) -> list[str]:
    """After the first one: requests to the only model."""
    model_id = await world.value("SELECT id FROM models")
    asked = [f"request-{n}" for n in range(2, num_requests + 1)]
    for request_id in asked:
        await world.gateway.submit(model_id, request_id=request_id)
    return asked


async def scaling_up(world: World, num_endpoints: int = 2, **values: object) -> str:
    """A pipeline whose entry, and as many others as are asked for, wait for what they lack."""
    own = {"full_memory_workers": num_endpoints, "max_endpoints": num_endpoints} | values
    endpoint_id = await consolidating(world, **own)
    await asked(world, NUM_SLOTS * num_endpoints)
    await world.until(SCALE_UPS, " ".join(["LOADING"] * (num_endpoints - 1)))
    await eventually(lambda: growing(world), what="a worker that is told its target")
    return endpoint_id


def growing(world: World) -> SimulatedNode | None:
    """A node that is told to let a worker behind the entry become the whole model."""
    for node in world.nodes.values():
        specs = () if node.agent.accepted is None else node.agent.accepted.workers
        if any(spec.target is not None and spec.stage_index > 0 for spec in specs):
            return node
    return None


async def left_over(world: World) -> tuple[str, SimulatedNode]:
    """The endpoint, whose entry has switched; and a node whose worker still lacks layers."""
    endpoint_id = await scaling_up(world)
    node = growing(world)
    assert node is not None
    hold_fetches(world, are_held=False)
    node.fetcher.held = {FetchPurpose.CONSOLIDATION}
    await world.until_state(endpoint_id, "STANDALONE")
    await world.until("SELECT count(*) FROM reservations", 2)
    return endpoint_id, node


@pytest.mark.parametrize("num_endpoints", [2, NUM_STAGES])
async def test_as_many_workers_as_are_needed_become_endpoints_without_a_cold_start(
    world: World, num_endpoints: int
) -> None:
    endpoint_id = await scaling_up(world, num_endpoints)

    hold_fetches(world, are_held=False)

    await world.until(CHILDREN, num_endpoints - 1)
    await world.until_state(endpoint_id, "STANDALONE")
    requests = [f"request-{n + 1}" for n in range(NUM_SLOTS * num_endpoints)]
    for request_id in requests:
        await world.assigned(request_id)
    assert len({world.gateway.assigned[id_].endpoint_id for id_ in requests}) == num_endpoints
    await world.until("SELECT count(*) FROM reservations", num_endpoints)
    assert await world.value("SELECT min(device_bytes) FROM reservations") == MODEL_BYTES
    assert await world.value(COLD_STARTS) == 1
    assert await world.value(SCALE_UPS) == " ".join(["COMPLETE"] * (num_endpoints - 1))
    for row in await world.rows("SELECT * FROM endpoints WHERE parent_id IS NOT NULL"):
        assert (row.parent_id, row.generation, row.num_stages) == (endpoint_id, 2, 1)


async def test_a_worker_that_nobody_needs_is_released_with_its_memory(world: World) -> None:
    own = {"full_memory_workers": 2, "max_endpoints": 2}
    endpoint_id = await consolidating(world, **own)

    hold_fetches(world, are_held=False)

    await world.until_state(endpoint_id, "STANDALONE")
    await world.until("SELECT count(*) FROM reservations", 1)
    assert await world.value(SCALE_UPS) is None and await world.value(CHILDREN) == 0


async def test_one_that_lacks_layers_when_the_entry_has_switched_goes_on(world: World) -> None:
    _, node = await left_over(world)
    (worker_id,) = node.agent.workers
    assert await world.value("SELECT is_desired FROM workers WHERE id = :id", id=worker_id)
    assert await world.value(CHILDREN) == 0

    node.fetcher.held = set()

    await world.until(CHILDREN, 1)
    assert worker_id in node.agent.workers, "it is the process that it was"
    child = await world.value("SELECT endpoint_id FROM workers WHERE id = :id", id=worker_id)
    assigned = world.gateway.assigned
    await eventually(lambda: {child} & {a.endpoint_id for a in assigned.values()}, what="requests")
    assert await world.value(COLD_STARTS) == 1


async def test_one_that_was_left_and_gives_up_ends_and_a_cold_start_takes_its_place(
    world: World,
) -> None:
    _, node = await left_over(world)

    node.behaviour.gives_up = "no room"

    await world.until(SCALE_UPS, "ABANDONED")
    await eventually(lambda: not node.agent.workers or len(node.agent.started) > 1, what="its end")
    await world.until(COLD_STARTS, 2)
    assert await world.value("SELECT detail FROM consolidations WHERE is_scale_up") == (
        "its worker gave up: no room"
    )


async def test_the_next_leader_separates_what_the_last_one_left(world: World) -> None:
    _, node = await left_over(world)
    await world.leader.kill()
    node.fetcher.held = set()
    (worker_id,) = node.agent.workers
    await eventually(lambda: node.agent.workers[worker_id].generation == 2, what="the switch")

    await world.start_leader()

    await world.until(CHILDREN, 1)
    assert await world.value(COLD_STARTS) == 1


async def test_a_pipeline_that_stays_one_takes_its_other_workers_back(world: World) -> None:
    endpoint_id = await scaling_up(world)
    node = growing(world)
    assert node is not None

    entry(world).behaviour.gives_up = "too slow"

    await world.until(SCALE_UPS, "ABANDONED")
    await world.until_state(endpoint_id, "PIPELINED")
    await eventually(lambda: growing(world) is None, what="targets that are taken back")
    assert node.agent.workers, "it is a stage as before"
    assert await world.value("SELECT count(*) FROM reservations") == NUM_STAGES
    why = await world.value("SELECT detail FROM consolidations WHERE is_scale_up")
    assert why == "its pipeline stays one"


async def test_another_try_of_one_worker_is_told_as_another(world: World) -> None:
    """A worker that has abandoned a target takes up none that reads the same."""
    await serve(world, is_held=True)
    node = entry(world)
    seen: list[int] = []

    def attempts() -> list[int]:
        told = [spec.target for desired in node.agent.seen for spec in desired.workers]
        seen[:] = sorted({target.attempt for target in told if target is not None})
        return seen

    await eventually(attempts, what="a target")
    node.behaviour.gives_up = "no room"

    await eventually(lambda: attempts() == [1, 2], what="a second attempt", timeout_s=30.0)


@pytest.mark.parametrize("has_switched", [False, True])
async def test_the_entrys_death_ends_what_was_to_become_of_it(
    world: World, has_switched: bool
) -> None:
    if has_switched:
        endpoint_id, _ = await left_over(world)
    else:
        endpoint_id = await scaling_up(world)
    victim = entry(world)

    victim.agent.change(entry_seen(world).worker_id, state=WorkerState.FAILED, cause=KILLED)

    await world.until_state(endpoint_id, "FAILED")
    scale_up = await world.value(SCALE_UPS)
    await eventually(lambda: scale_up != "LOADING", what="the end of what it was to become")
    own = "FROM workers JOIN reservations ON worker_id = id WHERE endpoint_id = :id"
    await world.until(f"SELECT count(*) {own}", 0, id=endpoint_id)
    open_ = "SELECT count(*) FROM consolidations WHERE ended_at IS NULL AND endpoint_id = :id"
    assert await world.value(open_, id=endpoint_id) == 0


async def test_the_death_of_one_that_was_left_is_no_loss_to_the_entry(world: World) -> None:
    endpoint_id, node = await left_over(world)
    (worker_id,) = node.agent.workers

    node.agent.change(worker_id, state=WorkerState.FAILED, cause=KILLED)

    await world.until("SELECT state FROM consolidations WHERE is_scale_up", "FAILED")
    assert await world.endpoint_state(endpoint_id) == "STANDALONE"
    own = "SELECT count(*) FROM reservations WHERE worker_id = :id"
    await world.until(own, 0, id=worker_id)
    await world.until(COLD_STARTS, 2)
