"""The starter alone, with a fleet and a clock of the test's own: one round's decisions."""

from dataclasses import replace

from services.scheduler.policy.cluster import Endpoint
from tests.integration.scheduler.desk import TIMING, Desk
from tests.integration.scheduler.world import KV_BYTES, MODEL_BYTES


async def test_a_round_plans_for_a_bounded_time_and_the_next_one_goes_on_with_the_others(
    desk: Desk,
) -> None:
    await desk.add_node("node-1", memory_bytes=9 * MODEL_BYTES)
    ids = [await desk.world.add_model(f"model-{i}") for i in range(5)]
    waited = {model_id: 10.0 - i for i, model_id in enumerate(ids)}
    desk.clock.step_s = 0.3

    first = await desk.round(waited)
    assert first.is_unfinished
    assert await desk.started() == set(ids[:2])

    await desk.round({id_: waited[id_] for id_ in ids[2:]})
    assert await desk.started() == set(ids[:4])


async def test_models_that_do_not_fit_keep_nobody_behind_them_from_being_reached(
    desk: Desk,
) -> None:
    await desk.add_node("node-1", memory_bytes=MODEL_BYTES)
    await desk.add_node("node-2", memory_bytes=2 * MODEL_BYTES)
    ids = [await desk.world.add_model(f"large-{i}", kv_cache_bytes=MODEL_BYTES) for i in range(3)]
    small = await desk.world.add_model("small")
    waited = {model_id: 10.0 - i for i, model_id in enumerate([*ids, small])}
    desk.clock.step_s = 0.6

    for _ in waited:
        round_ = await desk.round(
            {i: s for i, s in waited.items() if i not in await desk.started()}
        )

    assert await desk.started() == {ids[0], small}
    assert round_.is_unfinished, "the small one has just been started"


async def test_two_models_that_start_in_one_round_do_not_count_on_the_same_standby(
    desk: Desk,
) -> None:
    for node_id in ("node-1", "node-2"):
        await desk.add_node(node_id, memory_bytes=4 * MODEL_BYTES, num_standbys=1)
    ids = [await desk.world.add_model(f"model-{i}") for i in range(2)]

    await desk.round({ids[0]: 2.0, ids[1]: 1.0})

    assert await desk.nodes_of_workers() == ["node-1", "node-2"]


async def _large_one_waits_behind_busy_and_idle(desk: Desk) -> tuple[dict[str, Endpoint], str, str]:
    """Endpoints fill two nodes; a model that needs both nodes waits, and so does a small one."""
    for node_id in ("node-1", "node-2"):
        await desk.add_node(node_id, memory_bytes=MODEL_BYTES)
    idle, busy = [await desk.world.add_model(name) for name in ("idle", "busy")]
    await desk.round({idle: 2.0, busy: 1.0})
    serving = {**await desk.serving(idle, idle_s=20.0), **await desk.serving(busy, idle_s=None)}
    large = await desk.world.add_model("large", kv_cache_bytes=3 * KV_BYTES, max_pipeline_size=2)
    return serving, large, await desk.world.add_model("small")


async def test_at_first_a_small_model_takes_what_a_large_one_before_it_cannot_use_yet(
    desk: Desk,
) -> None:
    serving, large, small = await _large_one_waits_behind_busy_and_idle(desk)

    await desk.round({large: TIMING.claim_after_s - 1, small: 1.0}, **serving)

    assert len(await desk.draining()) == 1


async def test_after_a_while_the_large_one_keeps_what_it_waits_for_from_small_ones_behind(
    desk: Desk,
) -> None:
    serving, large, small = await _large_one_waits_behind_busy_and_idle(desk)
    waited = {large: TIMING.claim_after_s + 1, small: 1.0}

    await desk.round(waited, **serving)
    assert not await desk.draining()

    both_idle = {name: replace(found, idle_s=5.0) for name, found in serving.items()}
    await desk.round(waited, **both_idle)
    assert len(await desk.draining()) == 2
