"""A leader that is killed at any state: the next one goes on from rows and from what nodes say."""

from dataclasses import replace

from tests.integration.scheduler.consolidation.pipelines import (
    OPEN,
    STATES,
    consolidating,
    entry,
    entry_seen,
    entry_spec,
    hold_fetches,
    serve,
)
from tests.integration.scheduler.world import World
from tests.support.waiting import eventually


async def test_a_leader_that_is_killed_before_it_began_leaves_a_pipeline(world: World) -> None:
    endpoint_id = await serve(world, is_held=True)

    await world.restart_leader()
    hold_fetches(world, are_held=False)

    await world.until_state(endpoint_id, "STANDALONE")
    assert await world.value(STATES) == "COMPLETE"


async def test_the_next_leader_goes_on_while_layers_are_loaded(world: World) -> None:
    endpoint_id = await consolidating(world)

    await world.restart_leader()
    assert await world.value(STATES) == "LOADING"
    hold_fetches(world, are_held=False)

    await world.until_state(endpoint_id, "STANDALONE")
    assert await world.value(STATES) == "COMPLETE", "nothing was begun twice"


async def test_the_next_leader_goes_on_while_keys_and_values_are_copied(world: World) -> None:
    endpoint_id = await consolidating(world)
    node = entry(world)
    node.behaviour.switches = False
    hold_fetches(world, are_held=False)
    await world.until(STATES, "COPYING")

    await world.restart_leader()
    node.behaviour.switches = True

    await world.until_state(endpoint_id, "STANDALONE")
    assert await world.value(STATES) == "COMPLETE"


async def test_a_switch_that_no_leader_saw_is_recorded_by_the_next_one(world: World) -> None:
    endpoint_id = await consolidating(world)
    node = entry(world)
    await world.leader.kill()
    hold_fetches(world, are_held=False)
    await eventually(lambda: entry_seen(world).generation == 2, what="the switch")
    others = [n for n in world.nodes.values() if n is not node]
    others[0].agent.workers.clear()  # the loss of one that has left is nobody's

    await world.start_leader()

    await world.until_state(endpoint_id, "STANDALONE", "FAILED")
    assert await world.endpoint_state(endpoint_id) == "STANDALONE"
    await world.until("SELECT count(*) FROM reservations", 1)


async def test_a_switch_of_which_nothing_is_on_record_is_recorded(world: World) -> None:
    """As when the target was taken back while the entry switched."""
    endpoint_id = await consolidating(world)
    node, worker_id = entry(world), entry_spec(world).worker_id
    await world.leader.kill()
    await world.execute("UPDATE consolidations SET state = 'ABANDONED', ended_at = now()")
    await world.execute("UPDATE endpoints SET state = 'PIPELINED'")
    await world.execute("DELETE FROM endpoint_members WHERE generation = 2")
    node.agent.change(worker_id, generation=2, consolidation=None)

    await world.start_leader()

    await world.until_state(endpoint_id, "STANDALONE")
    assert await world.value(STATES) == "ABANDONED COMPLETE"
    members = await world.rows("SELECT worker_id FROM endpoint_members WHERE generation = 2")
    assert [row.worker_id for row in members] == [worker_id]
    assert await world.value(OPEN) == 0


async def test_the_next_leader_knows_of_tries_that_came_to_nothing(world: World) -> None:
    endpoint_id = await serve(world, is_held=True)
    await eventually(lambda: entry_spec(world).target, what="a target")
    entry(world).behaviour.gives_up = "too slow"
    await world.until(STATES, "ABANDONED")

    await world.restart_leader()

    def tries() -> int | None:
        snapshot = world.leader.controller.rounds.snapshot
        known = None if snapshot is None else snapshot.endpoints.get(endpoint_id)
        return None if known is None else known.consolidation_tries.count

    await eventually(lambda: tries() == 1, what="the try that was")
    assert await world.value(STATES) == "ABANDONED"


async def test_nothing_begins_where_pipelines_stay_what_they_are(world: World) -> None:
    await world.leader.kill()
    world.timing = replace(world.timing, can_consolidate=False)
    await world.start_leader()
    endpoint_id = await serve(world)
    sweeps = world.leader.controller.rounds

    before_s = sweeps._swept_at_s
    await eventually(lambda: sweeps._swept_at_s > before_s + 0.2, what="sweeps")

    assert await world.endpoint_state(endpoint_id) == "PIPELINED"
    assert await world.value("SELECT count(*) FROM consolidations") == 0
