from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from nats.aio.client import Client

from libs.common.bus import NatsBus
from libs.common.errors import BusError
from libs.common.messages import ImportModel
from libs.common.subjects import Service
from libs.common.workqueue import NatsWorkQueue
from tests.integration.servers import RunningNats
from tests.support.waiting import eventually


def job(number: int) -> ImportModel:
    return ImportModel(model_id=f"model-{number}", import_id="import-1", source="/models/x")


Clients = tuple[Client, Client]
Queues = tuple[NatsWorkQueue, NatsWorkQueue]
IMPATIENCE_S = 0.3  # for puts that nobody will ever answer


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


async def test_a_job_is_taken_once_and_gone_when_done(queues: Queues) -> None:
    scheduler, fetcher = queues
    await scheduler.ensure()
    await scheduler.put(job(1), "import-1.1")

    taken = await fetcher.take(timeout_s=5)
    assert taken is not None and taken.message == job(1)
    await taken.in_progress()
    await taken.done()
    assert await fetcher.take(timeout_s=0.2) is None


async def test_a_repeated_put_with_the_same_id_is_one_job(queues: Queues) -> None:
    scheduler, fetcher = queues
    await scheduler.ensure()
    await scheduler.put(job(1), "import-1.1")
    await scheduler.put(job(1), "import-1.1")

    assert await fetcher.take(timeout_s=5) is not None
    assert await fetcher.take(timeout_s=0.2) is None


async def test_a_job_given_back_comes_again(queues: Queues) -> None:
    scheduler, fetcher = queues
    await scheduler.ensure()
    await scheduler.put(job(1), "import-1.1")
    first = await fetcher.take(timeout_s=5)
    assert first is not None
    await first.retry_later(0.1)

    again = await fetcher.take(timeout_s=5)
    assert again is not None and again.message == job(1)


async def test_ensure_may_be_repeated(queues: Queues) -> None:
    scheduler, _ = queues
    await scheduler.ensure()
    await scheduler.ensure()


async def test_jobs_survive_a_killed_server_and_put_says_when_it_is_away(
    nats_server: RunningNats, clients: Clients, queues: Queues
) -> None:
    scheduler, fetcher = queues
    await scheduler.ensure()
    await scheduler.put(job(1), "import-1.1")
    await nats_server.kill()
    assert await fetcher.take(timeout_s=0.1) is None
    with pytest.raises(BusError):
        await NatsWorkQueue(clients[0], IMPATIENCE_S).put(job(2), "import-2.1")
    await nats_server.start()

    async def taken() -> bool:
        found = await fetcher.take(timeout_s=0.5)
        return found is not None and found.message == job(1)

    await eventually(taken, timeout_s=20)


async def test_only_the_scheduler_may_add_jobs(clients: Clients, queues: Queues) -> None:
    scheduler, fetcher = queues
    await scheduler.ensure()
    with pytest.raises(BusError):
        await NatsWorkQueue(clients[1], IMPATIENCE_S).put(job(1), "forged")
    assert await fetcher.take(timeout_s=0.2) is None
