"""Host caches are a resource like device memory: planned with, made room in, named when small."""

from datetime import UTC, datetime

from libs.common.bus.messages import Step, SubmitAccepted, SubmitRefused
from libs.common.reasons import Reason
from libs.common.states import FetchPurpose, FetchState
from services.scheduler.policy.planning.memory import files_bytes
from tests.integration.scheduler.starts.test_pipeline import NUM_STAGES
from tests.integration.scheduler.world import World, summary_of
from tests.support.waiting import eventually

FILES_BYTES = files_bytes(summary_of("tiny"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
KNOWN = "SELECT count(*) FROM gpus JOIN nodes ON id = node_id WHERE cache_capacity_bytes > 0"


async def caches(world: World, **bytes_by_node: int) -> None:
    for name, cache_bytes in bytes_by_node.items():
        await world.add_node(name.replace("_", "-"), cache_bytes=cache_bytes)
    await world.until(KNOWN, len(bytes_by_node))


async def test_a_model_that_no_host_cache_can_hold_is_refused_at_once_with_the_numbers(
    world: World,
) -> None:
    await caches(world, node_1=FILES_BYTES - 1, node_2=FILES_BYTES // 2)
    model_id = await world.add_model()

    reply = await world.gateway.submit(model_id)

    assert isinstance(reply.result, SubmitRefused)
    assert reply.result.code == "model_too_large"
    assert f"{FILES_BYTES} bytes of host cache" in reply.result.message
    assert f"has {FILES_BYTES - 1}" in reply.result.message
    assert await world.value("SELECT count(*) FROM cold_starts") == 0


async def test_as_a_pipeline_the_same_model_fits_the_caches_together(world: World) -> None:
    names = [f"node_{i}" for i in range(NUM_STAGES)]
    await caches(world, **dict.fromkeys(names, FILES_BYTES // 2))
    model_id = await world.add_model(max_pipeline_size=NUM_STAGES)

    await world.gateway.submit(model_id, request_id="request-1")

    await world.until_state(await world.assigned("request-1"), "PIPELINED")


async def test_it_starts_on_the_node_whose_host_cache_is_large_enough(world: World) -> None:
    await caches(world, node_1=FILES_BYTES - 1, node_2=FILES_BYTES)

    await world.start_endpoint(await world.add_model())

    assert await world.value("SELECT node_id FROM workers") == "node-2"


async def test_an_idle_model_gives_way_when_only_its_place_in_the_host_cache_is_needed(
    world: World,
) -> None:
    await caches(world, node_1=2 * FILES_BYTES - 1)
    idle, wanted = await world.add_model("idle"), await world.add_model("wanted")
    old = await world.start_endpoint(idle)
    await world.finish("request-1")

    await world.gateway.submit(wanted, request_id="request-2")

    await world.until_state(old, "STOPPED")
    await world.until_state(await world.assigned("request-2"), "STANDALONE")
    assert await world.value("SELECT count(*) FROM endpoints WHERE state = 'FAILED'") == 0


async def test_shared_memory_that_others_have_filled_is_waited_for_and_used_again_afterwards(
    world: World,
) -> None:
    node = await world.add_node("node-1", cache_bytes=FILES_BYTES - 1)
    node.fetcher.cache_max_bytes = 10**9
    await world.until("SELECT cache_max_bytes FROM nodes", 10**9)
    model_id = await world.add_model()

    first = await world.gateway.submit(model_id, request_id="request-1")
    assert isinstance(first.result, SubmitAccepted)
    await eventually(
        lambda: any(told.reason is Reason.NODE_FAULT for told in world.gateway.progressed),
        what="why it waits",
    )
    await world.execute("UPDATE requests SET deadline_at = now()")
    await eventually(lambda: "request-1" in world.gateway.refused, what="the end")
    node.fetcher.cache_bytes = 10**9
    await world.gateway.submit(model_id, request_id="request-2")
    await world.until_state(await world.assigned("request-2"), "STANDALONE")

    assert world.gateway.refused["request-1"].code is Reason.NODE_FAULT
    assert await world.value("SELECT outcome FROM requests WHERE id='request-1'") == "deadline"
    assert await world.value("SELECT node_id FROM workers") == "node-1"


async def test_a_node_whose_shared_memory_is_full_is_avoided_where_another_has_room(
    world: World,
) -> None:
    full = await world.add_node("node-1", cache_bytes=FILES_BYTES - 1)
    full.fetcher.cache_max_bytes = 10**9
    await world.add_node("node-2")
    await world.until("SELECT count(*) FROM nodes WHERE cache_capacity_bytes > 0", 2)

    await world.start_endpoint(await world.add_model())

    assert await world.value("SELECT node_id FROM workers") == "node-2"


async def test_what_a_host_cache_had_is_recorded_also_when_its_fetcher_speaks_late(
    world: World,
) -> None:
    """A worker that finds its weights there can be ready first."""
    node = await world.add_node("node-1")
    node.fetcher.held = {FetchPurpose.START}
    await world.until("SELECT count(*) FROM gpus", 1)
    node.fetcher.cached |= {unit.digest for unit in summary_of("tiny").units}
    await world.start_endpoint(await world.add_model())
    assert await world.value("SELECT bytes_from_cache FROM cold_starts") == 0

    (fetch_id,) = node.fetcher.fetches
    step = Step(name="fetch", started_at=NOW, ended_at=NOW)
    node.fetcher.change(
        fetch_id, state=FetchState.COMPLETE, bytes_done=100, bytes_from_cache=77, steps=(step,)
    )

    await world.until("SELECT bytes_from_cache FROM cold_starts", 77)
