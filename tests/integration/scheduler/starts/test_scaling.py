"""Pins, commands of operators and what is known of gaps: as rows, across leaders."""

from typing import Any

from libs.common.ids import new_id
from services.scheduler.policy.scaling.gap_history import bin_of
from tests.integration.scheduler.world import MODEL_BYTES, World

LIVE = "SELECT count(*) FROM endpoints WHERE state = 'STANDALONE'"
OPEN = "SELECT count(*) FROM endpoints WHERE state NOT IN ('STOPPED', 'FAILED')"


async def command(world: World, model_id: str, kind: str) -> None:
    """What a gateway writes."""
    await world.execute(
        "INSERT INTO model_commands (id, model_id, kind, deadline_at)"
        " VALUES (:id, :model_id, :kind, now() + interval '60 s')",
        **{"id": new_id("command"), "model_id": model_id, "kind": kind},
    )


async def fetch_class_and_purpose(world: World) -> list[Any]:
    return await world.rows(
        "SELECT purpose, fetch_class FROM endpoints"
        " JOIN (SELECT endpoint_id, fetch_class FROM fetches) AS f ON f.endpoint_id = endpoints.id"
    )


async def test_a_preloaded_model_serves_its_first_request_warm_and_goes_when_it_is_unloaded(
    world: World,
) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model()

    await command(world, model_id, "preload")
    await world.until(LIVE, 1)
    assert [tuple(row) for row in await fetch_class_and_purpose(world)] == [
        ("preload", "background")
    ]
    await world.until("SELECT count(*) FROM model_commands", 0)

    await world.gateway.submit(model_id, request_id="request-1")
    await world.assigned("request-1")
    assert await world.value("SELECT count(*) FROM cold_starts") == 1
    await world.finish("request-1")

    await command(world, model_id, "unload")
    await world.until(OPEN, 0)
    await world.until("SELECT count(*) FROM model_commands", 0)
    assert await world.value("SELECT count(*) FROM reservations") == 0


async def test_a_pinned_model_keeps_its_endpoints_also_with_another_leader(world: World) -> None:
    await world.add_node("node-1", memory_bytes=4 * MODEL_BYTES)
    await world.add_model(min_endpoints=2, max_endpoints=3, keep_alive_s=0.2)

    await world.until(LIVE, 2)
    await world.restart_leader()
    await world.until_heard(1)
    await world.until("SELECT bool_and(idle_since < now() - interval '2 s') FROM endpoints", True)

    assert await world.value(LIVE) == 2
    await world.execute("UPDATE models SET min_endpoints = 0")
    await world.until(OPEN, 0)


async def test_gaps_are_known_to_the_next_leader(world: World) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model()
    await world.start_endpoint(model_id)
    await world.finish("request-1")
    await world.until("SELECT count(*) FROM model_activity WHERE idle_since IS NOT NULL", 1)

    await world.restart_leader()
    await world.until_heard(1)
    # As if it had rested for an hour before somebody asked.
    await world.leader.kill()
    await world.execute("UPDATE model_activity SET idle_since = now() - interval '3600 s'")
    await world.start_leader()
    await world.gateway.submit(model_id, request_id="request-2")
    await world.assigned("request-2")
    await world.until("SELECT count(*) FROM model_activity WHERE idle_since IS NULL", 1)

    known = world.leader.controller.rounds.snapshot
    assert known is not None
    assert known.activities[model_id].gaps.ended[bin_of(3600.0)] > 0
    assert known.activities[model_id].restart_s is not None
