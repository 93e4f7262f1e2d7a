"""Many requests that wait cost little more than one: they are spoken of all together."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from sqlalchemy import event, text

from libs.common.bus.messages import SubmitAccepted, SubmitReply
from libs.common.errors import BusTimeout
from services.scheduler.errors import LeadershipLost
from services.scheduler.intake.shared_transactions import MAX_TOGETHER
from services.scheduler.observation.queued_requests import Queue
from services.scheduler.store.fenced_transactions import Lane
from tests.integration.scheduler.world import World
from tests.support.waiting import eventually


async def test_what_waits_is_listed_together_with_its_place(world: World) -> None:
    model_id, other = await world.add_model(), await world.add_model("other")
    for request_id, model in (("a", model_id), ("b", model_id), ("c", other), ("d", model_id)):
        await world.gateway.submit(model, request_id=request_id)
    await world.gateway.cancel("a")

    async def places() -> dict[str, int] | None:
        return await world.gateway.list_waiting("a", "b", "c", "d", "unknown")

    await eventually_equal(places, {"b": 0, "c": 0, "d": 1})
    assert await world.gateway.list_waiting("b", attempt=2) == {}


async def test_a_new_leader_lists_what_waited_before_it(world: World) -> None:
    await world.gateway.submit(await world.add_model(), request_id="request-1")
    await world.restart_leader()

    async def places() -> dict[str, int] | None:
        return await world.gateway.list_waiting("request-1")

    await eventually_equal(places, {"request-1": 0})


async def test_many_submissions_at_once_share_transactions_and_keep_the_limit(
    world: World,
) -> None:
    model_id = await world.add_model(max_queue=30)
    begun: list[str] = []

    def note(_c: object, _cur: object, statement: str, *_: object) -> None:
        if "FROM leadership" in statement:
            begun.append(statement)

    async with world.leader.controller.submissions.fenced.transaction(Lane.SUBMISSIONS):
        asking = [asyncio.create_task(world.gateway.submit(model_id)) for _ in range(50)]
        shared = world.leader.controller.submissions.shared
        await eventually(lambda: len(shared._waiting) == 50)
        event.listen(world.database.engine.sync_engine, "before_cursor_execute", note)
    replies = await asyncio.gather(*asking)

    places = [r.result.queue_position for r in replies if isinstance(r.result, SubmitAccepted)]
    assert sorted(places) == list(range(30))
    assert len(begun) < 10, "rounds have some, too"


async def test_one_submission_goes_before_another_tenants_many(world: World) -> None:
    model_id = await world.add_model(max_queue=1000)
    asking: list[asyncio.Task[SubmitReply]] = []

    def ask(tenant: str) -> None:
        asking.append(asyncio.create_task(world.gateway.submit(model_id, tenant=tenant)))

    async with world.leader.controller.submissions.fenced.transaction(Lane.SUBMISSIONS):
        shared = world.leader.controller.submissions.shared
        for _ in range(300):  # more than the handlers that there were for all
            ask("acme")
        await eventually(lambda: len(shared._waiting) == 300)
        ask("other")
        await eventually(lambda: len(shared._waiting) == 301)
    reply, *_ = await asyncio.gather(asking[-1], *asking)

    assert isinstance(reply.result, SubmitAccepted)
    assert reply.result.queue_position < MAX_TOGETHER


async def test_a_submission_that_cannot_be_stored_costs_the_others_nothing(world: World) -> None:
    model_id = await world.add_model()
    async with world.leader.controller.submissions.fenced.transaction(Lane.SUBMISSIONS):
        bad = asyncio.create_task(world.gateway.submit(model_id, max_tokens=2**70, timeout_s=1))
        good = [asyncio.create_task(world.gateway.submit(model_id)) for _ in range(3)]
        shared = world.leader.controller.submissions.shared
        await eventually(lambda: len(shared._waiting) == 4)
    replies = await asyncio.gather(*good)

    assert all(isinstance(reply.result, SubmitAccepted) for reply in replies)
    with pytest.raises(BusTimeout):
        await bad


async def test_whoever_waits_for_a_transaction_is_let_go_with_the_leader(world: World) -> None:
    shared, has_begun = world.leader.controller.submissions.shared, asyncio.Event()

    async def never_ends(*_: object) -> None:
        has_begun.set()
        await asyncio.Event().wait()

    asking = [asyncio.create_task(shared.run("t", "request-1", never_ends)) for _ in range(2)]
    await eventually(has_begun.is_set, what="one that runs")
    asking.append(asyncio.create_task(shared.run("t", "request-1", never_ends)))
    await eventually(lambda: bool(shared._waiting), what="one that waits")
    await world.leader.kill()

    ended, _ = await asyncio.wait(asking, timeout=5)
    assert [type(task.exception()) for task in ended] == 3 * [LeadershipLost]


WAITING_FOR_LOCKS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def test_a_shared_transaction_and_a_gateways_batch_do_not_lock_each_other_out(
    world: World,
) -> None:
    """Clients go away together: their gateway cancels at the scheduler, and writes the ends."""
    model_id = await world.add_model()
    for request_id in ("a", "b"):
        await world.gateway.submit(model_id, request_id=request_id)
    lock = text("SELECT id FROM requests WHERE id = :id FOR UPDATE")

    async with world.database.transaction() as gateway:
        await gateway.execute(lock, {"id": "a"})
        async with world.leader.controller.submissions.fenced.transaction(Lane.SUBMISSIONS):
            shared = world.leader.controller.submissions.shared
            asking = [asyncio.create_task(world.gateway.cancel("b"))]
            await eventually(lambda: len(shared._waiting) == 1)
            asking.append(asyncio.create_task(world.gateway.cancel("a")))
            await eventually(lambda: len(shared._waiting) == 2)
        await world.until(WAITING_FOR_LOCKS, 1)
        await gateway.execute(lock, {"id": "b"})

    await asyncio.gather(*asking)
    await world.until("SELECT count(*) FROM requests WHERE outcome = 'cancelled'", 2)


async def test_a_request_whose_id_no_message_could_have_stops_nobody_elses_rounds(
    world: World,
) -> None:
    await world.add_node("node-1")
    model_id, other = await world.add_model(), await world.add_model("other")
    await world.execute(
        "INSERT INTO requests (id, tenant, model_id, gateway_id, attempt, state,"
        " num_prompt_tokens, max_tokens, deadline_at)"
        " VALUES ('a b', 't', :other, 'gateway-1', 1, 'QUEUED', 1, 1, now() + interval '1 hour')",
        other=other,
    )
    await world.restart_leader()

    await world.gateway.submit(model_id, request_id="request-1")

    await world.assigned("request-1")


async def eventually_equal(read: Callable[[], Awaitable[object]], expected: object) -> None:
    async def is_equal() -> bool:
        return bool(await read() == expected)

    await eventually(is_equal, what=f"{expected}")


async def test_a_submission_reads_nothing_of_those_that_wait(world: World) -> None:
    """A new leader counts them once in the rows, and then from what it does itself; what lives it
    knows from its rounds."""
    world.timing = replace(world.timing, reconcile_interval_s=60.0)
    models = [await world.add_model(f"model-{i}", max_queue=12) for i in range(4)]
    waiting = [(models[i % 4], f"r-{i:02}") for i in range(40)]
    await asyncio.gather(*(world.gateway.submit(m, request_id=id_) for m, id_ in waiting))
    await world.restart_leader()
    counts: list[str] = []
    world.leader.controller.wake.set()
    await eventually(lambda: world.leader.controller.rounds.snapshot is not None)

    def note(_c: object, _cur: object, statement: str, *_: object) -> None:
        assert not " ".join(statement.split()).startswith("SELECT endpoints.id FROM")
        if "count(*)" in statement or "row_number" in statement or "requests.tenant" in statement:
            counts.append(statement)

    event.listen(world.database.engine.sync_engine, "before_cursor_execute", note)
    places = []
    for i in range(10):
        reply = await world.gateway.submit(models[0], request_id=f"new-{i}")
        places.append(getattr(reply.result, "queue_position", None))
        if i % 3 == 2:
            await world.gateway.cancel(f"r-{4 * i:02}")

    assert places == [10, 11, None, 11, None, None, 11, None, None, 11]
    by_id = [statement for statement in counts if "requests.id = " in statement]
    assert len(counts) - len(by_id) <= 1
    queued = world.leader.controller.rounds.queued
    rows = await world.rows(
        "SELECT model_id, count(*) FROM requests WHERE state = 'QUEUED' GROUP BY 1"
    )
    assert {m: queued.num_queued(Queue(m, "tenant-1")).of_model for m in models} == dict(
        tuple(row) for row in rows
    )
