"""A pipeline becomes one worker: rows, what nodes are told, and what they say, to the end."""

from libs.common.bus.messages import PauseObserved, SwitchObserved
from libs.common.states import FetchClass, FetchPurpose, MemberMemory
from tests.integration.scheduler.consolidation.pipelines import (
    NUM_STAGES,
    OPEN,
    STATES,
    consolidating,
    entry,
    entry_seen,
    entry_spec,
    hold_fetches,
    others,
    serve,
)
from tests.integration.scheduler.world import KV_BYTES, MODEL_BYTES, WEIGHT_BYTES, World
from tests.support.waiting import eventually


async def test_a_pipeline_becomes_its_entry_alone_and_the_others_are_gone(world: World) -> None:
    endpoint_id = await serve(world)

    await world.until_state(endpoint_id, "STANDALONE")
    await world.until("SELECT count(*) FROM reservations", 1)
    assert await world.value(STATES) == "COMPLETE"
    assert await world.value("SELECT device_bytes FROM reservations") == MODEL_BYTES
    row = (await world.rows("SELECT generation, num_stages, epoch FROM endpoints"))[0]
    assert tuple(row) == (2, 1, 1)
    assert all(not node.agent.workers for node in others(world))
    states = await world.rows("SELECT state FROM workers ORDER BY stage_index")
    assert [row.state for row in states] == ["READY", *(["STOPPED"] * (NUM_STAGES - 1))]
    spec = entry_spec(world)
    assert (spec.generation, spec.num_stages, spec.target) == (2, 1, None)
    assert (spec.layers.first_layer, spec.layers.last_layer) == (0, 4)
    assert (spec.kv_bytes, spec.spare_bytes, len(spec.unit_digests)) == (KV_BYTES, 0, 6)
    assert entry(world).agent.started == [spec.worker_id], "it is the process that it was"


async def test_what_an_entry_lacks_is_fetched_in_the_background_while_it_serves(
    world: World,
) -> None:
    endpoint_id = await consolidating(world)

    spec, node = entry_spec(world), entry(world)
    target = spec.target
    assert target is not None and target.generation == 2
    assert not set(target.unit_digests) & set(spec.unit_digests)
    assert len(target.unit_digests) + len(spec.unit_digests) == 6
    assert target.kv_bytes == KV_BYTES
    (fetch,) = (f for f in node.fetcher.specs.values() if f.purpose is FetchPurpose.CONSOLIDATION)
    assert fetch.fetch_class is FetchClass.BACKGROUND
    assert fetch.unit_digests == target.unit_digests
    row = (await world.rows("SELECT * FROM consolidations"))[0]
    assert row.load_bytes == len(target.unit_digests) * WEIGHT_BYTES // 6
    assert row.state == "LOADING" and "it frees" in row.why
    members = await world.rows("SELECT * FROM endpoint_members WHERE generation = 2")
    assert [(m.worker_id, m.memory, m.last_layer) for m in members] == [
        (spec.worker_id, MemberMemory.FULL.value, 4)
    ]
    assert await world.endpoint_state(endpoint_id) == "CONSOLIDATING"
    await eventually(lambda: endpoint_id in served(world), what="its route")


async def test_its_phases_are_on_record(world: World) -> None:
    endpoint_id = await consolidating(world)
    entry(world).behaviour.switches = False

    hold_fetches(world, are_held=False)

    await world.until(STATES, "COPYING")
    assert entry_seen(world).consolidation is not None
    entry(world).behaviour.switches = True
    await world.until_state(endpoint_id, "STANDALONE")
    row = (await world.rows("SELECT * FROM consolidations"))[0]
    assert row.started_at <= row.copying_at <= row.ended_at
    await world.until(OPEN, 0)


async def test_how_the_switch_went_is_on_record_once_it_is_complete(world: World) -> None:
    pauses = [PauseObserved(request_id=f"r{i}", pause_ms=ms) for i, ms in enumerate((90, 40, 20))]
    told = SwitchObserved(
        generation=2,
        transfer="move",
        predicted_move_ms=200,
        num_sequences=3,
        precopied_bytes=4000,
        moved_bytes=500,
        drain_ms=10,
        move_ms=5,
        pauses=tuple(pauses),
    )
    endpoint_id = await consolidating(world)
    entry(world).behaviour.switch = told

    hold_fetches(world, are_held=False)

    await world.until_state(endpoint_id, "STANDALONE")
    await world.until("SELECT pause_max_ms FROM consolidations", 90)
    row = (await world.rows("SELECT * FROM consolidations"))[0]
    assert row.pause_p50_ms == 40
    assert SwitchObserved.model_validate(row.switch) == told


async def test_a_request_that_comes_while_it_consolidates_goes_to_the_same_endpoint(
    world: World,
) -> None:
    endpoint_id = await consolidating(world)
    model_id = await world.value("SELECT model_id FROM endpoints")

    await world.gateway.submit(model_id, request_id="request-2")

    assert await world.assigned("request-2") == endpoint_id


def served(world: World) -> set[str]:
    routes = world.gateway.routes
    own = () if routes is None else routes.routes.values()
    return {route.endpoint_id for some in own for route in some}
