"""What a gateway is answered, and what becomes of its request's row."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import event

from libs.common.bus.messages import RequestAssigned, SubmitAccepted, SubmitRefused, SubmitReply
from libs.common.states import ModelState
from tests.integration.scheduler.world import World
from tests.support.waiting import eventually


def refused(reply: SubmitReply) -> SubmitRefused:
    assert isinstance(reply.result, SubmitRefused), reply
    return reply.result


def accepted(reply: SubmitReply) -> SubmitAccepted:
    assert isinstance(reply.result, SubmitAccepted), reply
    return reply.result


async def test_a_repeated_submission_keeps_its_place_and_makes_no_second_row(world: World) -> None:
    model_id = await world.add_model()
    for name in ("first", "second", "third"):
        await world.gateway.submit(model_id, request_id=name)

    again = [await world.gateway.submit(model_id, request_id="second") for _ in range(3)]

    assert [accepted(reply).queue_position for reply in again] == [1, 1, 1]
    assert await world.value("SELECT count(*) FROM requests") == 3


async def test_what_many_ask_again_at_once_is_read_together(world: World) -> None:
    model_id, names = await world.add_model(), [f"request-{i:02}" for i in range(20)]
    for name in names:
        await world.gateway.submit(model_id, request_id=name)
    await world.finish(names[0])
    singly: list[str] = []

    def note(_c: object, _cur: object, statement: str, *_: object) -> None:
        if "FROM requests" in statement and statement.endswith("FOR UPDATE"):
            singly.append(statement)

    event.listen(world.database.engine.sync_engine, "before_cursor_execute", note)
    replies = await asyncio.gather(
        *(world.gateway.submit(model_id, request_id=name) for name in names[1:])
    )

    assert [accepted(reply).queue_position for reply in replies] == list(range(19))
    assert not singly
    assert refused(await world.gateway.submit(model_id, request_id=names[0])).code == "ended"


async def test_a_repetition_after_the_assignment_carries_it(world: World) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model()
    endpoint_id = await world.start_endpoint(model_id)

    again = await world.gateway.submit(model_id, request_id="request-1")

    assert accepted(again).assigned == RequestAssigned(
        request_id="request-1", attempt=1, endpoint_id=endpoint_id, epoch=1
    )


async def test_one_request_more_than_the_queue_holds_is_refused_with_a_time_to_retry(
    world: World,
) -> None:
    model_id = await world.add_model(max_queue=2)
    for name in ("first", "second"):
        accepted(await world.gateway.submit(model_id, request_id=name))

    reply = refused(await world.gateway.submit(model_id, request_id="third"))

    assert (reply.code, reply.retry_after_s) == ("queue_full", 5)
    assert await world.value("SELECT count(*) FROM requests") == 2
    accepted(await world.gateway.submit(model_id, request_id="second"))


async def test_who_finds_a_queue_full_that_moves_is_told_the_wait_at_its_speed(
    world: World,
) -> None:
    world.timing = replace(world.timing, queue_retry_after_s=1000)
    await world.restart_leader()
    await world.add_node("node-1")
    model_id = await world.add_model(max_queue=1, max_slots=1, max_endpoints=1)
    await world.start_endpoint(model_id)
    accepted(await world.gateway.submit(model_id, request_id="second"))

    reply = refused(await world.gateway.submit(model_id, request_id="third"))

    assert reply.retry_after_s is not None and 1 <= reply.retry_after_s <= 60


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"state": ModelState.IMPORTING.value}, "model_not_ready", "still being imported"),
        (
            {"state": ModelState.FAILED.value, "cause": "layer 3 is missing"},
            "model_failed",
            "layer 3 is missing",
        ),
        ({"state": ModelState.DELETING.value}, "model_not_found", "deleted"),
    ],
)
async def test_a_model_that_is_not_ready_is_refused_with_its_cause(
    world: World, changes: dict[str, str], code: str, words: str
) -> None:
    model_id = await world.add_model(**changes)

    reply = refused(await world.gateway.submit(model_id))

    assert reply.code == code and words in reply.message


async def test_an_unknown_model_is_refused(world: World) -> None:
    assert refused(await world.gateway.submit("model-nobody-knows")).code == "model_not_found"


async def test_losing_an_endpoint_that_perhaps_never_had_the_request_does_not_count(
    world: World,
) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model()
    endpoint_id = await world.start_endpoint(model_id)

    for attempt in range(2, 5):
        accepted(
            await world.gateway.submit(
                model_id,
                request_id="request-1",
                attempt=attempt,
                lost_endpoint_id=endpoint_id,
                was_taken=False,
            )
        )

    await world.require_nothing_counted()


async def test_an_endpoint_reported_lost_gets_nothing_until_it_is_seen_again(world: World) -> None:
    node = await world.add_node("node-1")
    model_id = await world.add_model()
    endpoint_id = await world.start_endpoint(model_id)
    node.behaviour.is_silent = True

    await world.gateway.resubmit(model_id, "request-1")

    await eventually(
        lambda: world.gateway.routes is not None and not world.gateway.routes.routes,
        what="the withdrawn route",
    )
    assert "request-1" not in world.gateway.assigned
    node.behaviour.is_silent = False
    assert await world.assigned("request-1") == endpoint_id


async def test_losing_an_endpoint_that_never_served_does_not_count(world: World) -> None:
    node = await world.add_node("node-1")
    node.behaviour.readies_workers = False
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")
    for _ in range(4):
        await world.assigned("request-1")
        accepted(await world.gateway.resubmit(model_id, "request-1"))

    await world.require_nothing_counted()


async def test_a_busy_or_draining_answer_queues_the_request_again_without_counting(
    world: World,
) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model()
    endpoint_id = await world.start_endpoint(model_id)
    world.gateway.assigned.clear()

    accepted(await world.gateway.submit(model_id, request_id="request-1", attempt=2))

    assert await world.assigned("request-1") == endpoint_id
    assert world.gateway.assigned["request-1"].attempt == 2
    await world.require_nothing_counted()


async def test_a_late_message_of_an_earlier_attempt_changes_nothing(world: World) -> None:
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1", attempt=1)
    await world.gateway.submit(model_id, request_id="request-1", attempt=2)

    reply = refused(await world.gateway.submit(model_id, request_id="request-1", attempt=1))

    assert reply.code == "ended"
    assert await world.value("SELECT attempt FROM requests") == 2


async def test_a_warm_request_that_lost_its_endpoint_is_taken_over_with_or_without_its_row(
    world: World,
) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model(max_slots=4)
    endpoint_id = await world.start_endpoint(model_id)
    await world.execute(
        "INSERT INTO requests (id, tenant, model_id, gateway_id, attempt, state, endpoint_id,"
        " num_prompt_tokens, max_tokens, deadline_at) VALUES ('warm-1', 'tenant-1', :model,"
        " 'gateway-1', 1, 'ASSIGNED', :endpoint, 1, 1, now() + interval '60 s')",
        model=model_id,
        endpoint=endpoint_id,
    )

    for request_id in ("warm-1", "warm-2"):
        accepted(
            await world.gateway.submit(
                model_id, request_id=request_id, attempt=2, lost_endpoint_id=endpoint_id
            )
        )

    rows = await world.rows(
        "SELECT attempt FROM requests JOIN request_losses ON request_id = id WHERE id LIKE 'warm-%'"
    )
    assert [row.attempt for row in rows] == [2, 2]


async def test_requests_beyond_the_slots_wait_and_move_up_in_order_of_arrival(
    world: World,
) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model(max_slots=2)
    names = [f"request-{i}" for i in range(5)]
    for name in names:
        await world.gateway.submit(model_id, request_id=name)

    for i, name in enumerate(names):
        await world.assigned(name)
        assert await world.value("SELECT count(*) FROM requests WHERE state='ASSIGNED'") <= 2
        if i >= 1:
            await world.finish(names[i - 1])

    assert [a.request_id for a in world.gateway.all_assigned] == names


async def test_a_cancelled_request_leaves_the_queue(world: World) -> None:
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")
    await world.gateway.submit(model_id, request_id="request-2")

    await world.gateway.cancel("request-1")
    await world.gateway.cancel("request-1")

    assert await world.value("SELECT outcome FROM requests WHERE id='request-1'") == "cancelled"
    again = await world.gateway.submit(model_id, request_id="request-2")
    assert accepted(again).queue_position == 0


async def test_waiting_clients_are_told_each_phase(world: World) -> None:
    node = await world.add_node("node-1")
    node.behaviour.completes_fetches = node.behaviour.readies_workers = False
    model_id = await world.add_model(max_slots=1)
    await world.gateway.submit(model_id, request_id="request-1")
    await world.gateway.submit(model_id, request_id="request-2")

    def phases(request_id: str) -> list[str]:
        told = [p.phase for p in world.gateway.progressed if p.request_id == request_id]
        return list(dict.fromkeys(told))

    await eventually(lambda: "fetching" in phases("request-1"), what="fetching")
    node.behaviour.completes_fetches = True
    await eventually(lambda: "starting" in phases("request-1"), what="starting")
    node.behaviour.readies_workers = True
    await eventually(lambda: "ready" in phases("request-1"), what="ready")

    assert phases("request-1")[-3:] == ["fetching", "starting", "ready"]
    queued = [p for p in world.gateway.progressed if p.request_id == "request-2"]
    assert queued[-1].phase == "queued"
    assert await world.gateway.list_waiting("request-1", "request-2") == {"request-2": 0}
