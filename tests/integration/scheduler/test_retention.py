"""What ended long ago is deleted, and nothing that is younger or that something kept refers to."""

from dataclasses import replace

import pytest

from services.scheduler.retention import BATCH_ROWS, Retention
from services.scheduler.settings import DAY_S
from tests.integration.scheduler.world import QUICK, World, digest
from tests.integration.servers import TestDatabase

RETENTION_S = 30 * DAY_S
OLD, YOUNG = "now() - interval '40 days'", "now() - interval '20 days'"

_ADD_REQUESTS = """
INSERT INTO requests (id, tenant, model_id, gateway_id, attempt, state, num_prompt_tokens,
    max_tokens, deadline_at, ended_at, is_accounted)
SELECT '{name}-' || n, 't', 'm', 'g', 1, 'ENDED', 1, 1, now() + interval '1 day', {ended_at}, true
FROM generate_series(1, {num}) AS n
"""
_ADD_ENDPOINT = """
INSERT INTO endpoints (id, tenant, model_id, parent_id, epoch, state, max_slots, num_stages,
    ended_at)
VALUES ('{id}', 't', '{model_id}', {parent}, 1, 'FAILED', 1, 1, {ended_at})
"""


@pytest.fixture
def retention(world: World) -> Retention:
    return Retention(world.leader.controller.submissions.fenced, RETENTION_S, pause_s=0.0)


async def add_endpoint(
    world: World, id_: str, model_id: str, ended_at: str = OLD, parent: str = "NULL"
) -> None:
    await world.execute(
        _ADD_ENDPOINT.format(id=id_, model_id=model_id, ended_at=ended_at, parent=parent)
    )


async def ids(world: World, table: str) -> set[str]:
    return {row[0] for row in await world.rows(f"SELECT id FROM {table}")}


async def test_requests_go_batch_by_batch_once_they_ended_long_ago(
    world: World, retention: Retention
) -> None:
    num = 2 * BATCH_ROWS + 1
    for name, ended_at in (("old", OLD), ("young", YOUNG)):
        await world.execute(_ADD_REQUESTS.format(name=name, ended_at=ended_at, num=num))

    await retention.work()

    left = await world.rows("SELECT split_part(id, '-', 1), count(*) FROM requests GROUP BY 1")
    assert [tuple(row) for row in left] == [("young", num)]


async def test_a_retention_of_zero_keeps_everything(world: World, retention: Retention) -> None:
    await world.execute(_ADD_REQUESTS.format(name="old", ended_at=OLD, num=1))

    await replace(retention, retention_s=0.0).work()

    assert await ids(world, "requests") == {"old-1"}


async def test_an_ended_endpoint_goes_with_its_start_and_a_serving_one_stays(
    database: TestDatabase,
) -> None:
    world = World(database.owner, replace(QUICK, retention_interval_s=0.1))
    await world.gateway.start()
    await world.start_leader()
    await world.add_node("node-1")
    ended = await world.start_endpoint(await world.add_model("a", keep_alive_s=0.1))
    await world.finish("request-1")
    await world.until_state(ended, "STOPPED")
    serving = await world.start_endpoint(await world.add_model("b"), "request-2")
    await world.until("SELECT count(*) FROM reservations", 1)

    for table in ("endpoints", "requests", "workers", "cold_starts"):
        await world.execute(f"UPDATE {table} SET ended_at = ended_at - interval '40 days'")
    await world.until("SELECT count(*) FROM endpoints", 1)
    await world.until("SELECT count(*) FROM requests", 1)

    assert await ids(world, "endpoints") == {serving}
    for table in ("workers", "cold_starts"):
        assert await world.value(f"SELECT string_agg(endpoint_id, ' ') FROM {table}") == serving
    assert await world.value("SELECT count(DISTINCT cold_start_id) FROM cold_start_steps") == 1
    await world.close()


async def test_an_endpoint_stays_while_it_holds_memory_or_another_one_came_of_it(
    world: World, retention: Retention
) -> None:
    model_id = await world.add_model()
    await world.execute("INSERT INTO nodes (id) VALUES ('node-1')")
    await add_endpoint(world, "held", model_id)
    await world.execute(
        "INSERT INTO workers (id, endpoint_id, node_id, device_index, stage_index, state, spec) "
        "VALUES ('w', 'held', 'node-1', 0, 0, 'READY', '{}')"
    )
    await world.execute("INSERT INTO reservations VALUES ('w', 'node-1', 0, 1)")
    await add_endpoint(world, "parent", model_id)
    await add_endpoint(world, "child", model_id, YOUNG, "'parent'")
    await add_endpoint(world, "free", model_id)

    await retention.work()
    assert await ids(world, "endpoints") == {"held", "parent", "child"}

    await world.execute("DELETE FROM reservations")
    await world.execute(f"UPDATE endpoints SET ended_at = {OLD}")
    await retention.work()
    await retention.work()  # the parent goes after its child
    assert await ids(world, "endpoints") == set()


async def test_a_deleted_model_goes_after_its_endpoints_and_with_a_manifest_that_only_it_had(
    world: World, retention: Retention
) -> None:
    await world.add_model("gone")
    sharing = await world.add_model("sharing", manifest_digest=digest("manifest gone"))
    alone, lately = await world.add_model("alone"), await world.add_model("lately")
    await add_endpoint(world, "young", alone, YOUNG)
    await world.execute(f"UPDATE manifests SET created_at = {OLD}")
    await world.execute(f"UPDATE models SET state = 'DELETING', updated_at = {OLD}")
    await world.execute("UPDATE models SET state = 'READY' WHERE id = :id", id=sharing)
    await world.execute("UPDATE models SET updated_at = now() WHERE id = :id", id=lately)

    await retention.work()
    assert await ids(world, "models") == {sharing, alone, lately}

    await world.execute(f"UPDATE endpoints SET ended_at = {OLD}")
    await retention.work()
    assert await ids(world, "models") == {sharing, lately}
    left = {row[0] for row in await world.rows("SELECT digest FROM manifests")}
    assert left == {digest("manifest gone"), digest("manifest lately")}


async def test_hours_are_forgotten_and_their_memory_stays_in_the_days_of_usage(
    world: World, retention: Retention
) -> None:
    """The 5th has two hours and a row of usage, the 6th one hour; another model has one, too."""
    for model, hour in (("m", "05 10:00"), ("m", "05 11:00"), ("m", "06 00:00"), ("n", "05 10:00")):
        await world.execute(
            f"INSERT INTO memory_hours VALUES ('t', '{model}', '2020-01-{hour}+00', 1, 10, 100)"
        )
        await world.execute(
            f"INSERT INTO slo_hours (tenant, model_id, hour) VALUES ('t', '{model}',"
            f" '2020-01-{hour}+00')"
        )
    await world.execute(f"INSERT INTO memory_hours VALUES ('t', 'm', {YOUNG}, 1, 10, 100)")
    await world.execute(
        f"INSERT INTO slo_hours (tenant, model_id, hour) VALUES ('t', 'm', {YOUNG})"
    )
    await world.execute("INSERT INTO usage VALUES ('t', 'm', '2020-01-05', 7, 8, 9)")

    for _ in range(2):
        await retention.work()

    columns = "model_id, day::text, num_requests, starting_byte_s, busy_byte_s, idle_byte_s"
    days = await world.rows(f"SELECT {columns} FROM usage ORDER BY model_id, day")
    assert [tuple(day) for day in days] == [
        ("m", "2020-01-05", 7, 2, 20, 200),
        ("m", "2020-01-06", 0, 1, 10, 100),
        ("n", "2020-01-05", 0, 1, 10, 100),
    ]
    for table in ("memory_hours", "slo_hours"):
        assert await world.value(f"SELECT count(*) FROM {table}") == 1
