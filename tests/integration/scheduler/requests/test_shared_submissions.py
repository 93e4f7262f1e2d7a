"""Submissions that come together share a transaction, and go ahead of what nodes say."""

import asyncio
from contextlib import suppress

from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import SubmitAccepted
from libs.common.errors import DatabaseUnavailable
from services.scheduler.intake.queue_readings import QueueReadings
from services.scheduler.store.fenced_transactions import Lane
from services.scheduler.store.new_requests import NewRequest
from tests.integration.scheduler.world import World
from tests.support.waiting import eventually

_NUM_LOCKED_OUT = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def test_submissions_for_many_models_at_once_take_a_statement_of_each_kind(
    world: World,
) -> None:
    model_ids = [await world.add_model(f"model-{number}") for number in range(40)]
    statements: list[tuple[asyncio.Task[object] | None, str]] = []

    def note(_c: object, _cur: object, statement: str, *_: object) -> None:
        statements.append((asyncio.current_task(), statement))

    async with world.leader.controller.submissions.fenced.transaction(Lane.SUBMISSIONS):
        asking = [asyncio.create_task(world.gateway.submit(id_)) for id_ in model_ids]
        shared = world.leader.controller.submissions.shared
        await eventually(lambda: len(shared._waiting) == 40)
        event.listen(world.database.engine.sync_engine, "before_cursor_execute", note)
    replies = await asyncio.gather(*asking)

    assert all(isinstance(reply.result, SubmitAccepted) for reply in replies)
    (inserting,) = (task for task, statement in statements if "INSERT INTO requests" in statement)
    own = [statement for task, statement in statements if task is inserting]  # rounds read, too
    assert sum("FROM manifests" in statement for statement in own) == 1


async def test_repetitions_before_the_first_answer_share_it(world: World) -> None:
    model_id = await world.add_model()
    submissions = world.leader.controller.submissions
    async with submissions.fenced.transaction(Lane.SUBMISSIONS):
        asking = [
            asyncio.create_task(world.gateway.submit(model_id, request_id="request-1"))
            for _ in range(5)
        ]
        await eventually(lambda: len(submissions.shared._waiting) == 1)
    replies = await asyncio.gather(*asking)

    assert all(isinstance(reply.result, SubmitAccepted) for reply in replies)
    assert await world.value("SELECT count(*) FROM requests") == 1
    await eventually(lambda: not submissions._asked)


async def test_a_row_that_somebody_writes_at_that_moment_is_met_and_counts(world: World) -> None:
    """A gateway that has ended a request before it was answered has written its row."""
    model_id, shared = await world.add_model(), world.leader.controller.submissions.shared
    work, num_runs = shared.run, 0

    async def write_row(session: AsyncSession, readings: QueueReadings) -> object:
        """As the gateway does, once the scheduler has seen that there is no row."""
        nonlocal num_runs
        num_runs += 1
        if num_runs == 1:
            assert await readings.request("request-2") is None
            await world.execute(
                "INSERT INTO requests (id, tenant, model_id, gateway_id, attempt, state, outcome,"
                " num_prompt_tokens, max_tokens, deadline_at, ended_at) VALUES ('request-2', 'x',"
                " :model, 'gateway-1', 1, 'ENDED', 'cancelled', 5, 5, now(), now())",
                model=model_id,
            )
            readings.add(NewRequest("request-2", "x", model_id, "gateway-1", 1, 5, 5, 60.0))
            return "queued"
        found = await readings.request("request-2")
        return None if found is None else found.state

    assert await work("x", "request-2", write_row) == "ENDED"
    assert num_runs == 2


async def test_a_cancellation_meets_the_submission_that_came_just_before_it(world: World) -> None:
    model_id = await world.add_model()
    submissions = world.leader.controller.submissions
    async with submissions.fenced.transaction(Lane.SUBMISSIONS):
        submitting = asyncio.create_task(world.gateway.submit(model_id, request_id="request-1"))
        await eventually(lambda: len(submissions.shared._waiting) == 1)
        cancelling = asyncio.create_task(world.gateway.cancel("request-1"))
        await eventually(lambda: len(submissions.shared._waiting) == 2)
    await asyncio.gather(submitting, cancelling)

    assert await world.value("SELECT outcome FROM requests") == "cancelled"


async def test_submissions_that_a_gateways_rows_lock_out_are_answered_all_the_same(
    world: World,
) -> None:
    """It has written one request's row and wants another one's, and the leader the other way."""
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="b")
    shared = world.leader.controller.submissions.shared
    # Postgres lets one of the two go, whichever.
    with suppress(DBAPIError, DatabaseUnavailable):
        async with world.database.transaction() as gateway:
            await gateway.execute(
                text(
                    "INSERT INTO requests (id, tenant, model_id, gateway_id, attempt, state,"
                    " num_prompt_tokens, max_tokens, deadline_at) VALUES ('a', 'x', :model,"
                    " 'gateway-1', 1, 'ASSIGNED', 5, 5, now() + interval '1 hour')"
                ),
                {"model": model_id},
            )
            async with world.leader.controller.submissions.fenced.transaction(Lane.SUBMISSIONS):
                cancelling = asyncio.create_task(world.gateway.cancel("b"))
                await eventually(lambda: len(shared._waiting) == 1)
                again = world.gateway.submit(model_id, request_id="a", attempt=2)
                submitting = asyncio.create_task(again)
                await eventually(lambda: len(shared._waiting) == 2)
            await world.until(_NUM_LOCKED_OUT, 1)
            await gateway.execute(text("SELECT id FROM requests WHERE id = 'b' FOR UPDATE"))
    await asyncio.gather(cancelling, submitting)

    assert await world.value("SELECT outcome FROM requests WHERE id = 'b'") == "cancelled"


async def test_a_submission_goes_ahead_of_what_nodes_say_but_not_of_another_node(
    world: World,
) -> None:
    await world.add_node("node-1")
    rounds = world.leader.controller.rounds
    await eventually(lambda: rounds.snapshot is not None, what="the first round")
    changes = rounds.changes

    # With nothing awaited, no round comes between.
    rounds._swept_at_s, rounds._was_of_submissions = rounds.clock.monotonic_s(), False
    changes.take()
    changes.submitted.add("request-1")
    changes.nodes.add("node-1")
    ahead, _ = rounds._take()
    changes.put_back(ahead)
    changes.submitted.add("request-1")
    changes.look_at_nodes(["node-1"])
    together, _ = rounds._take()
    changes.put_back(together)

    assert (ahead.is_of_submissions, ahead.nodes) == (True, set())
    assert (together.is_of_submissions, together.nodes) == (False, {"node-1"})
    assert ahead.requests == together.requests == {"request-1"}
