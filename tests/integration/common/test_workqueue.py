from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.js.api import RetentionPolicy, StreamConfig

from libs.common.bus.bus import NatsBus
from libs.common.bus.subjects import IMPORT_STREAM, Service
from libs.common.bus.workqueue import NatsWorkQueue
from libs.common.errors import BusError
from tests.integration.servers import RunningNats
from tests.support.waiting import eventually
from tests.support.workqueue_contract import GoAway, WorkQueueContract, job

Clients = tuple[Client, Client]
Queues = tuple[NatsWorkQueue, NatsWorkQueue]
SHORT_TIMEOUT_S = 0.3  # for puts that nobody will ever answer


@pytest_asyncio.fixture
async def clients(nats_server: RunningNats) -> AsyncIterator[Clients]:
    """The scheduler's and a fetcher's."""
    buses = [
        await NatsBus.connect(nats_server.settings(service), service, name="test")
        for service in (Service.SCHEDULER, Service.FETCHER)
    ]
    yield buses[0].client, buses[1].client
    for bus in buses:
        await bus.close()


@pytest.fixture
def queues(clients: Clients) -> Queues:
    return NatsWorkQueue(clients[0]), NatsWorkQueue(clients[1])


class TestNatsWorkQueue(WorkQueueContract):
    @pytest_asyncio.fixture
    async def scheduler(self, clients: Clients) -> NatsWorkQueue:
        queue = NatsWorkQueue(clients[0])
        await queue.ensure()
        return queue

    @pytest.fixture
    def impatient(self, clients: Clients) -> NatsWorkQueue:
        return NatsWorkQueue(clients[0], SHORT_TIMEOUT_S)

    @pytest.fixture
    def fetcher(self, clients: Clients) -> NatsWorkQueue:
        return NatsWorkQueue(clients[1])

    @pytest.fixture
    def go_away(self, nats_server: RunningNats) -> GoAway:
        return nats_server.kill


async def test_ensure_may_be_repeated(queues: Queues) -> None:
    scheduler, _ = queues
    await scheduler.ensure()
    await scheduler.ensure()


async def test_jobs_survive_a_killed_server(nats_server: RunningNats, queues: Queues) -> None:
    scheduler, fetcher = queues
    await scheduler.ensure()
    await scheduler.put(job(1))
    await nats_server.kill()
    await nats_server.start()

    async def taken() -> bool:
        found = await fetcher.take(timeout_s=0.5)
        return found is not None and found.message == job(1)

    await eventually(taken, timeout_s=20)


async def test_only_the_scheduler_may_add_jobs(clients: Clients, queues: Queues) -> None:
    scheduler, fetcher = queues
    await scheduler.ensure()
    with pytest.raises(BusError):
        await NatsWorkQueue(clients[1], SHORT_TIMEOUT_S).put(job(1))
    assert await fetcher.take(timeout_s=0.2) is None


async def test_a_stream_of_an_earlier_release_takes_on_the_new_rules(
    clients: Clients, queues: Queues
) -> None:
    scheduler, fetcher = queues
    stream = StreamConfig(
        name=IMPORT_STREAM,
        subjects=["hydra.v1.import.requested"],
        retention=RetentionPolicy.WORK_QUEUE,
        duplicate_window=20.0,
        max_msgs=10_000,
    )
    await clients[0].jetstream().add_stream(stream)

    await scheduler.ensure()
    await scheduler.put(job(1))
    await scheduler.put(job(1))

    taken = await fetcher.take(timeout_s=5)
    assert taken is not None and taken.message == job(1)
    assert await fetcher.take(timeout_s=0.2) is None
