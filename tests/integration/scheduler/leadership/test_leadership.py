"""One leader at a time: taking over, being fenced off, and going on where another one died."""

import asyncio

import pytest

from libs.common.records.database import Database
from services.scheduler.errors import LeadershipLost
from services.scheduler.leadership.leadership import Candidate, Leadership
from services.scheduler.store.fenced_transactions import FencedTransactions
from tests.integration.scheduler.world import World
from tests.integration.servers import TestDatabase
from tests.support.waiting import eventually


async def lead(candidate: Candidate) -> Leadership:
    leadership = await eventually(candidate.try_to_lead, what="leadership")
    assert isinstance(leadership, Leadership)
    return leadership


async def test_a_standby_leads_under_a_higher_epoch_as_soon_as_the_leader_is_gone(
    database: TestDatabase,
) -> None:
    first = await lead(Candidate(database.owner, "scheduler-a"))
    standby = Candidate(database.owner, "scheduler-b")
    assert await standby.try_to_lead() is None
    assert await standby.try_to_lead() is None

    await first.release()
    second = await lead(standby)

    assert second.epoch > first.epoch
    await second.release()


async def test_a_leader_whose_connection_is_cut_knows_it_at_its_next_look(
    database: TestDatabase, world: World
) -> None:
    await world.leader.kill()
    leadership = await lead(Candidate(database.owner, "scheduler-a"))

    await world.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name LIKE 'hydra-leader/%'"
    )

    with pytest.raises(LeadershipLost, match="in doubt"):
        await asyncio.wait_for(leadership.watch(0.01), 10)
    await leadership.release()


async def test_a_leader_that_lost_only_its_lock_knows_it_too(database: TestDatabase) -> None:
    leadership = await lead(Candidate(database.owner, "scheduler-a"))
    watching = asyncio.create_task(leadership.watch(0.01))
    await leadership._connection.execute("SELECT pg_advisory_unlock_all()")

    with pytest.raises(LeadershipLost, match="not ours"):
        await asyncio.wait_for(watching, 10)
    await leadership.release()


async def test_a_transaction_of_an_old_epoch_is_refused_and_leaves_nothing(
    database: TestDatabase, world: World
) -> None:
    old = world.leader.controller.submissions.fenced
    model_id = await world.add_model()

    newer = FencedTransactions(world.database, old.epoch + 1)
    await world.execute("UPDATE leadership SET epoch = epoch + 1")

    with pytest.raises(LeadershipLost):
        async with old.transaction() as session:
            raise AssertionError(f"{session} must not be reached for {model_id}")
    async with newer.transaction():
        pass
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(asyncio.shield(world.leader.task), 10)


async def test_a_new_epoch_waits_for_the_old_leaders_transaction(database: TestDatabase) -> None:
    first = await lead(Candidate(database.owner, "scheduler-a"))
    pool = Database.open(database.owner)
    fenced = FencedTransactions(pool, first.epoch)
    standby = Candidate(database.owner, "scheduler-b")

    async with fenced.transaction():
        await first.release()
        taking = asyncio.create_task(lead(standby))
        done, _ = await asyncio.wait({taking}, timeout=0.3)
        assert not done, "the epoch grew while a transaction of the old one was open"

    second = await taking
    assert second.epoch > first.epoch
    await second.release()
    await pool.close()


async def test_nodes_learn_the_new_epoch_even_when_nothing_else_is_new(world: World) -> None:
    node = await world.add_node("node-1")
    await eventually(lambda: node.agent.accepted and node.fetcher.accepted)

    leader = await world.restart_leader()

    epoch = leader.leadership.epoch
    await eventually(
        lambda: (
            node.agent.accepted is not None
            and node.agent.accepted.leader_epoch == epoch
            and node.fetcher.accepted is not None
            and node.fetcher.accepted.leader_epoch == epoch
        ),
        what="the new epoch at both followers",
    )


async def test_nodes_follow_the_leader_of_a_database_that_was_restored_from_an_older_state(
    world: World,
) -> None:
    """It knows nothing of the epochs that nodes have seen since."""
    node = await world.add_node("node-1")
    await eventually(lambda: node.agent.accepted and node.fetcher.accepted)
    before = world.leader.leadership.epoch
    await world.leader.kill()
    await world.execute("UPDATE leadership SET epoch = 0")

    leader = await world.restart_leader()

    assert leader.leadership.epoch > before
    await world.gateway.submit(await world.add_model(), request_id="request-1")
    await world.assigned("request-1")


PHASES = ["queued", "planned", "fetching", "loading", "serving", "draining", "stopping"]


@pytest.mark.parametrize("phase", PHASES)
async def test_killed_at_any_point_of_a_cold_start_the_next_leader_goes_on(
    world: World, phase: str
) -> None:
    node = await world.add_node("node-1")
    model_id = await world.add_model(keep_alive_s=0.3)
    behaviour = node.behaviour
    behaviour.is_silent = phase in ("queued", "planned")
    behaviour.completes_fetches = phase not in ("planned", "fetching")
    behaviour.readies_workers = phase != "loading"
    behaviour.stops_undesired = phase != "stopping"
    if phase == "planned":
        behaviour.is_silent = False
        await world.until_heard(1)
        world.broker.lose = lambda subject, _: ".desired." in subject

    await world.gateway.submit(model_id, request_id="request-1")
    if phase == "planned":
        await world.until("SELECT count(*) FROM workers", 1)
    if phase == "fetching":
        await eventually(lambda: node.fetcher.fetches)
    if phase == "loading":
        await eventually(lambda: node.agent.workers)
    if phase in ("serving", "draining", "stopping"):
        endpoint_id = await world.assigned("request-1")
        await world.until_state(endpoint_id, "STANDALONE")
    if phase in ("draining", "stopping"):
        (worker_id,) = node.agent.workers
        node.agent.change(worker_id, num_waiting=int(phase == "draining"))
        await world.finish("request-1")
    if phase == "draining":
        await world.execute("UPDATE models SET keep_alive_s=0")
        node.agent.change(worker_id, num_waiting=0)
        await world.until_state(endpoint_id, "DRAINING", "STOPPED")
    if phase == "stopping":
        await world.until("SELECT count(*) FROM workers WHERE NOT is_desired", 1)

    await world.restart_leader()
    world.broker.lose = lambda _subject, _message: False
    behaviour.is_silent, behaviour.stops_undesired = False, True
    behaviour.completes_fetches = behaviour.readies_workers = True

    if phase not in ("draining", "stopping"):
        # Its assignment may have died with the leader: gateways repeat what was not assigned.
        await world.gateway.submit(model_id, request_id="request-1")
        endpoint_id = await world.assigned("request-1")
        await world.until_state(endpoint_id, "STANDALONE")
        await world.finish("request-1")
    await world.until_state(endpoint_id, "STOPPED")
    assert await world.value("SELECT count(*) FROM reservations") == 0
    assert await world.value("SELECT count(*) FROM endpoints") == 1
    assert len(node.agent.started) == 1
