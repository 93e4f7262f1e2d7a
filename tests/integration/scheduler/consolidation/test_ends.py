"""Consolidations that come to nothing, and members that are lost before and after the switch."""

from typing import Any

from libs.common.causes import Cause, CauseKind
from libs.common.states import FetchState, WorkerState
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
from tests.integration.scheduler.world import World
from tests.support.waiting import eventually

KILLED = Cause.of(CauseKind.PROCESS_EXITED, signal="SIGKILL")


async def abandoned(world: World, endpoint_id: str) -> Any:
    """Its row, once it is a pipeline again and nothing is left of what it was to become."""
    await world.until(STATES, "ABANDONED")
    members = "SELECT count(*) FROM endpoint_members WHERE generation > 1"
    assert await world.value(members) == 0
    fetches = "SELECT count(*) FROM fetches WHERE purpose = 'consolidation' AND is_desired"
    assert await world.value(fetches) == 0
    await eventually(lambda: entry_spec(world).target is None, what="a target that is taken back")
    return (await world.rows("SELECT * FROM consolidations"))[0]


async def test_one_that_nobody_asks_for_is_abandoned_and_ends_with_its_keep_alive(
    world: World,
) -> None:
    """It begins while it works; what it lacks does not come, and it would be gone by then."""
    endpoint_id = await consolidating(world, keep_alive_s=3.0)

    await world.finish("request-1")

    row = await abandoned(world, endpoint_id)
    assert "keep-alive" in row.detail and not row.is_retried
    await world.until_state(endpoint_id, "STOPPED")
    await world.until("SELECT count(*) FROM reservations", 0)


async def test_one_that_its_entry_gives_up_is_tried_again_after_a_while(world: World) -> None:
    endpoint_id = await serve(world, is_held=True)
    await eventually(lambda: entry_spec(world).target, what="a target")
    entry(world).behaviour.gives_up = "no room for keys and values"

    row = await abandoned(world, endpoint_id)

    assert row.detail == "its entry gave up: no room for keys and values"
    assert row.is_retried and await world.endpoint_state(endpoint_id) == "PIPELINED"
    entry(world).behaviour.gives_up = None
    hold_fetches(world, are_held=False)
    await eventually(lambda: entry_spec(world).num_stages == 1, what="another try", timeout_s=30.0)
    ended = await world.rows(
        "SELECT state, extract(epoch FROM started_at) AS begun_s,"
        " extract(epoch FROM ended_at) AS ended_s FROM consolidations ORDER BY started_at"
    )
    assert [row.state for row in ended] == ["ABANDONED", "COMPLETE"]
    assert ended[1].begun_s - ended[0].ended_s >= 5.0


async def test_one_whose_fetch_fails_is_abandoned_with_the_cause(world: World) -> None:
    endpoint_id = await consolidating(world)
    fetcher = entry(world).fetcher
    for fetch in tuple(fetcher.fetches.values()):
        if fetch.state is FetchState.FETCHING:
            full = Cause(CauseKind.HOST_CACHE_FULL)
            fetcher.change(fetch.fetch_id, state=FetchState.FAILED, cause=full)

    row = await abandoned(world, endpoint_id)

    assert row.detail.startswith("its layers could not be fetched: ") and row.is_retried
    assert await world.endpoint_state(endpoint_id) == "PIPELINED"


async def test_one_whose_model_is_deleted_is_abandoned_and_drains(world: World) -> None:
    endpoint_id = await consolidating(world)

    await world.execute("UPDATE models SET state = 'DELETING'")

    row = await abandoned(world, endpoint_id)
    assert row.detail == "the endpoint takes no more"
    assert await world.endpoint_state(endpoint_id) in ("DRAINING", "STOPPED")


async def test_a_member_that_dies_before_the_switch_fails_the_endpoint(world: World) -> None:
    endpoint_id = await consolidating(world)
    victim = others(world)[0]
    (worker_id,) = victim.agent.workers
    victim.agent.change(worker_id, state=WorkerState.FAILED, cause=KILLED)

    await world.until_state(endpoint_id, "FAILED")

    row = (await world.rows("SELECT * FROM consolidations"))[0]
    assert row.state == "FAILED" and "SIGKILL" in row.detail
    own = "FROM workers JOIN reservations ON worker_id = id WHERE endpoint_id = :id"
    await world.until(f"SELECT count(*) {own}", 0, id=endpoint_id)
    fetches = "SELECT count(*) FROM fetches WHERE endpoint_id = :id AND is_desired"
    assert await world.value(fetches, id=endpoint_id) == 0


async def test_the_entry_that_dies_while_it_copies_fails_the_endpoint(world: World) -> None:
    endpoint_id = await copying(world)

    entry(world).agent.change(entry_seen(world).worker_id, state=WorkerState.FAILED, cause=KILLED)

    await world.until_state(endpoint_id, "FAILED")
    assert await world.value(STATES) == "FAILED"


async def test_a_member_that_dies_while_the_entry_copies_fails_the_endpoint(
    world: World,
) -> None:
    """A moment later: the entry, with which nothing is wrong, might have switched."""
    endpoint_id = await copying(world)
    victim = others(world)[0]
    (worker_id,) = victim.agent.workers
    victim.agent.change(worker_id, state=WorkerState.FAILED, cause=KILLED)

    await world.until_state(endpoint_id, "FAILED")
    assert await world.value(STATES) == "FAILED"


async def test_members_that_die_once_the_entry_has_switched_are_no_loss(world: World) -> None:
    endpoint_id = await copying(world)
    node, seen = entry(world), entry_seen(world)
    for other in others(world):
        other.behaviour.stops_undesired = False
        for worker_id in other.agent.workers:
            other.agent.change(worker_id, state=WorkerState.FAILED, cause=KILLED)

    node.agent.change(seen.worker_id, generation=2)
    await node.beat()

    await world.until_state(endpoint_id, "STANDALONE", "FAILED")
    assert await world.endpoint_state(endpoint_id) == "STANDALONE"
    await world.until("SELECT count(*) FROM reservations", 1)
    assert await world.value("SELECT count(*) FROM endpoints WHERE state = 'FAILED'") == 0
    failed = "SELECT count(*) FROM workers WHERE state = 'FAILED'"
    assert await world.value(failed) == 0, "they ended as they should"


async def test_a_standalone_endpoint_fails_with_its_entry_alone(world: World) -> None:
    endpoint_id = await serve(world)
    await world.until_state(endpoint_id, "STANDALONE")
    await world.until("SELECT count(*) FROM reservations", 1)
    for other in others(world):
        other.agent.restart()
    model_id = await world.value("SELECT model_id FROM endpoints")
    await world.gateway.submit(model_id, request_id="request-2")
    assert await world.assigned("request-2") == endpoint_id

    entry(world).agent.change(entry_seen(world).worker_id, state=WorkerState.FAILED, cause=KILLED)

    await world.until("SELECT count(*) FROM endpoints WHERE state = 'FAILED'", 1)


async def test_a_consolidated_endpoint_drains_and_is_gone(world: World) -> None:
    endpoint_id = await serve(world, keep_alive_s=3.0)
    await world.until_state(endpoint_id, "STANDALONE")

    await world.finish("request-1")

    await world.until_state(endpoint_id, "STOPPED")
    await world.until("SELECT count(*) FROM reservations", 0)
    assert await world.value(OPEN) == 0


async def copying(world: World) -> str:
    """One whose entry has all layers, and has not switched."""
    endpoint_id = await consolidating(world)
    entry(world).behaviour.switches = False
    hold_fetches(world, are_held=False)
    await world.until(STATES, "COPYING")
    assert len(world.nodes) == NUM_STAGES
    return endpoint_id
