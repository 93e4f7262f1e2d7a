"""A sweep reads only requests whose rows were written since, and misses none of them."""

import pytest
from sqlalchemy import event

from libs.common.errors import DatabaseUnavailable
from services.scheduler.policy.cluster import OpenRequest
from tests.integration.scheduler.world import World
from tests.support.waiting import eventually

IDS = ("request-1", "request-2", "request-3", "request-4")


def known(world: World) -> dict[str, OpenRequest]:
    """The requests of the last round."""
    snapshot = world.leader.controller.rounds.snapshot
    return {} if snapshot is None else {r.id: r for r in snapshot.requests}


async def swept(world: World) -> None:
    """Once another sweep has ended."""
    rounds = world.leader.controller.rounds
    before_s = rounds._swept_at_s
    await eventually(lambda: rounds._swept_at_s > before_s, what="another sweep")


async def queue_all(world: World) -> None:
    model_id = await world.add_model()
    for request_id in IDS:
        await world.gateway.submit(model_id, request_id=request_id)
    await eventually(lambda: known(world).keys() == set(IDS))
    await swept(world)
    await swept(world)


async def test_requests_that_only_wait_are_not_read_again(world: World) -> None:
    await queue_all(world)
    before = known(world)

    await world.execute("UPDATE requests SET attempt = 2 WHERE id = 'request-2'")
    await eventually(lambda: known(world)["request-2"].attempt == 2)

    after = known(world)
    assert [id_ for id_ in IDS if after[id_] is before[id_]] == [x for x in IDS if x != "request-2"]


@pytest.mark.parametrize(
    ("statement", "expected", "why"),
    [
        ("UPDATE requests SET attempt = 3 WHERE id = :id", (3, 0), "it is another attempt"),
        ("UPDATE requests SET num_node_losses = 1 WHERE id = :id", (1, 1), "it was counted"),
        ("UPDATE requests SET state = 'ENDED', outcome = 'stop' WHERE id = :id", None, "it ended"),
        ("DELETE FROM requests WHERE id = :id", None, "somebody tidied up"),
    ],
)
async def test_what_another_hand_wrote_is_seen(
    world: World, statement: str, expected: tuple[int, int] | None, why: str
) -> None:
    await queue_all(world)

    await world.execute(statement, id=IDS[0])
    await swept(world)
    await swept(world)

    found = known(world).get(IDS[0])
    assert (found and (found.attempt, found.num_node_losses)) == expected, why


async def test_what_was_written_in_a_long_transaction_is_seen_once_it_commits(
    world: World,
) -> None:
    """Its number is older than those of rows that were seen meanwhile."""
    await queue_all(world)
    async with world.database.transaction() as session:
        connection = await session.connection()
        await connection.exec_driver_sql("UPDATE requests SET attempt = 2 WHERE id = 'request-1'")
        await world.execute("UPDATE requests SET attempt = 3 WHERE id = 'request-2'")
        await eventually(lambda: known(world)["request-2"].attempt == 3)
        assert known(world)["request-1"].attempt == 1

    await eventually(lambda: known(world)["request-1"].attempt == 2)


async def test_a_loss_beside_the_row_is_seen(world: World) -> None:
    await queue_all(world)

    await world.execute(
        "INSERT INTO request_losses (request_id, endpoint_id, has_progressed)"
        " VALUES ('request-1', 'endpoint-1', false)"
    )
    await eventually(lambda: len(known(world)["request-1"].losses) == 1)


async def test_what_a_failed_sweep_would_have_read_is_read_by_the_next(world: World) -> None:
    await queue_all(world)
    num_failures = 0

    def fail_once(_c: object, _cur: object, statement: str, *_: object) -> None:
        nonlocal num_failures
        if "num_engine_crashes" in statement and statement.startswith("SELECT"):
            num_failures += 1
            if num_failures == 1:
                raise DatabaseUnavailable("it fails between the versions and the rows")

    event.listen(world.database.engine.sync_engine, "before_cursor_execute", fail_once)
    await world.execute("UPDATE requests SET attempt = 2 WHERE id = 'request-1'")

    await eventually(
        lambda: known(world).get("request-1") is not None and known(world)["request-1"].attempt == 2
    )
    assert num_failures > 1
    event.remove(world.database.engine.sync_engine, "before_cursor_execute", fail_once)
