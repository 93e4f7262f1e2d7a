"""Requests that nobody else would end."""

from dataclasses import replace

from services.scheduler.store.accounting import accounts
from services.scheduler.store.accounting.accounts import UNREPORTED_S
from services.scheduler.store.fenced_transactions import Lane
from tests.integration.scheduler.simulated import SimulatedGateway
from tests.integration.scheduler.world import World
from tests.support.waiting import eventually


async def test_a_waiting_request_ends_at_its_deadline_and_names_the_models_trouble(
    world: World,
) -> None:
    model_id = await world.add_model()
    await world.execute(
        "INSERT INTO endpoints"
        " (id, tenant, model_id, epoch, state, cause, max_slots, num_stages, ended_at) VALUES"
        " ('old', 'tenant-1', :model, 1, 'FAILED', 'no such library', 1, 1, now())",
        model=model_id,
    )
    world.timing = replace(world.timing, reconcile_interval_s=0.0)  # each round looks at all
    await world.restart_leader()

    # A round before the deadline would find that no node can be used, and name that.
    async with world.leader.controller.submissions.fenced.transaction(Lane.DECISIONS):
        await world.gateway.submit(model_id, request_id="request-1", remaining_ms=60_000)
        await world.execute("UPDATE requests SET deadline_at = now()")

    await eventually(lambda: "request-1" in world.gateway.refused)
    assert world.gateway.refused["request-1"].code == "deadline_exceeded"
    assert "no such library" in world.gateway.refused["request-1"].message
    assert await world.value("SELECT outcome FROM requests") == "deadline"


async def test_the_requests_of_a_silent_gateway_end_and_those_of_another_do_not(
    world: World,
) -> None:
    other = SimulatedGateway("gateway-2", world.broker.bus())
    await other.start()
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="mine")
    await other.submit(model_id, request_id="theirs")

    other.is_silent = True

    await world.until("SELECT outcome FROM requests WHERE id='theirs'", "gateway_lost")
    assert await world.value("SELECT state FROM requests WHERE id='mine'") == "QUEUED"
    await other.stop()


async def test_a_request_its_gateway_no_longer_lists_ends(world: World) -> None:
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="forgotten")
    await world.gateway.submit(model_id, request_id="remembered")

    world.gateway.open_ids.discard("forgotten")

    await world.until("SELECT outcome FROM requests WHERE id='forgotten'", "gateway_lost")
    assert await world.value("SELECT state FROM requests WHERE id='remembered'") == "QUEUED"


async def test_a_new_leader_gives_gateways_time_to_be_heard(world: World) -> None:
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="request-1")

    await world.restart_leader()
    await world.gateway.submit(model_id, request_id="request-2")

    assert await world.value("SELECT count(*) FROM requests WHERE state='QUEUED'") == 2


async def test_requests_of_a_gateway_that_was_started_again_end_at_once(world: World) -> None:
    world.timing = replace(world.timing, gateway_lost_s=60.0, gateway_replaced_s=0.5)
    await world.restart_leader()
    old = SimulatedGateway("west-a", world.broker.bus())
    await old.start()
    model_id = await world.add_model()
    await world.gateway.submit(model_id, request_id="mine")
    await old.submit(model_id, request_id="theirs")
    await old.stop()

    new = SimulatedGateway("west-b", world.broker.bus())
    await new.start()

    await world.until("SELECT outcome FROM requests WHERE id='theirs'", "gateway_lost")
    assert await world.value("SELECT state FROM requests WHERE id='mine'") == "QUEUED"
    await new.stop()


async def test_nothing_is_started_for_requests_whose_gateway_nobody_hears(world: World) -> None:
    dead = SimulatedGateway("dead-a", world.broker.bus(), is_silent=True)
    waited_for, abandoned = await world.add_model("waited-for"), await world.add_model("abandoned")
    await dead.submit(abandoned, request_id="nobodys")
    await world.gateway.submit(waited_for, request_id="somebodys")

    node = await world.add_node("node-1")

    await world.assigned("somebodys")
    assert await world.value("SELECT count(*) FROM endpoints WHERE model_id=:id", id=abandoned) == 0
    await world.until("SELECT outcome FROM requests WHERE id='nobodys'", "gateway_lost")
    assert len(node.agent.started) == 1


async def test_rows_of_gateways_of_long_ago_are_removed(world: World) -> None:
    await world.execute(
        "INSERT INTO gateways (id, heard_at) VALUES ('west-a', now() - interval '2 hours')"
    )

    await world.until("SELECT count(*) FROM gateways WHERE id='west-a'", 0)
    await world.until("SELECT count(*) FROM gateways", 1)


async def test_requests_that_no_gateway_accounts_for_count_once_with_their_prompts(
    world: World,
) -> None:
    rows = {  # when assigned, when ended, whether accounted
        "lost": ("now()", "now() - interval '2 hours'", "false"),
        "never-assigned": ("NULL", "now() - interval '2 hours'", "false"),
        "recent": ("now()", "now()", "false"),
        "told": ("now()", "now() - interval '2 hours'", "true"),
    }
    for id_, (assigned_at, ended_at, is_accounted) in rows.items():
        await world.execute(
            "INSERT INTO requests (id, tenant, model_id, gateway_id, attempt, state, outcome,"
            " num_prompt_tokens, max_tokens, deadline_at, assigned_at, ended_at, is_accounted)"
            " VALUES (:id, 'tenant-1', 'model-1', 'gateway-1', 1, 'ENDED', 'gateway_lost', 10, 20,"
            f" now(), {assigned_at}, {ended_at}, {is_accounted})",
            id=id_,
        )

    await world.restart_leader()  # whose first round looks
    await world.until("SELECT count(*) FROM requests WHERE NOT is_accounted", 1)
    async with world.database.transaction() as session:
        await accounts.close_unreported(session, UNREPORTED_S)

    assert await world.value("SELECT id FROM requests WHERE NOT is_accounted") == "recent"
    usage = await world.rows(
        "SELECT num_requests, num_prompt_tokens, num_generated_tokens FROM usage"
    )
    assert usage == [(1, 10, 0)]
