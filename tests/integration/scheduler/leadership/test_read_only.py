"""Postgres takes no writes for a while, as at a failover: leadership is kept and rounds pause."""

import pytest

from libs.common.bus.messages import ModelsChanged
from libs.common.bus.subjects import MODELS_CHANGED, Service
from libs.common.errors import BusTimeout
from libs.common.records.outbox import enqueue
from services.scheduler.leadership.leadership import Candidate, Leadership
from tests.integration.scheduler.world import World
from tests.integration.servers import RunningPostgres, TestDatabase
from tests.support.readonlypostgres import read_only
from tests.support.waiting import eventually


async def test_the_leader_pauses_while_nothing_can_be_written_and_goes_on_in_its_epoch(
    world: World, postgres_server: RunningPostgres
) -> None:
    await world.add_node("node-1")
    model_id = await world.add_model()
    leader = world.leader
    health = leader.controller.health
    async with read_only(postgres_server.server):
        with pytest.raises(BusTimeout):
            await world.gateway.submit(model_id, request_id="request-1", timeout_s=0.2)
        began_s = health._clock.monotonic_s()
        await eventually(
            lambda: health._beat_at_s > began_s or leader.task.done(),
            what="a sign of life while Postgres takes no writes",
        )
        assert not leader.task.done()

    await world.start_endpoint(model_id)
    assert not leader.task.done()
    assert await world.value("SELECT epoch FROM leadership") == leader.leadership.epoch


async def test_a_standby_takes_no_leadership_that_it_cannot_write_and_leads_afterwards(
    database: TestDatabase, postgres_server: RunningPostgres
) -> None:
    candidate = Candidate(database.owner, "scheduler-a")
    async with read_only(postgres_server.server):
        assert await candidate.try_to_lead() is None
        assert await candidate.try_to_lead() is None

    leadership = await candidate.try_to_lead()

    assert isinstance(leadership, Leadership)
    await leadership.release()


async def test_what_is_to_be_published_waits_until_it_can_be_deleted(
    world: World, postgres_server: RunningPostgres
) -> None:
    message, relay = ModelsChanged(model_ids=("model-1",)), world.leader.controller.relay
    async with world.database.transaction() as session:
        await enqueue(session, Service.SCHEDULER, MODELS_CHANGED, None, message)
    async with read_only(postgres_server.server):
        with pytest.raises(BusTimeout):
            await world.gateway.submit("model-1", timeout_s=0.2)
        relay.wake()
        with pytest.raises(Exception, match="takes no writes"):
            await relay.relay_once()

    await world.until("SELECT count(*) FROM outbox", 0)
    assert message in [message for _, message in world.broker.published]
    assert not world.leader.task.done()
