from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from libs.common.bus.messages import Message, ModelsChanged, RequestAssigned
from libs.common.bus.subjects import MODELS_CHANGED, REQUEST_ASSIGNED, Service
from libs.common.errors import BusError
from libs.common.observability import telemetry
from libs.common.records.database import Database
from libs.common.records.outbox import OutboxRelay, enqueue
from libs.common.testing.bus import MemoryBroker
from tests.integration.servers import TestDatabase
from tests.support.waiting import eventually

CHANGED = ModelsChanged(model_ids=("model-1",))


@pytest_asyncio.fixture
async def store(database: TestDatabase) -> AsyncIterator[Database]:
    opened = Database.open(database.gateway)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def owner(database: TestDatabase) -> AsyncIterator[Database]:
    """As the scheduler sees it."""
    opened = Database.open(database.owner)
    yield opened
    await opened.close()


async def num_rows(store: Database) -> int:
    async with store.transaction() as session:
        return int(await session.scalar(text("SELECT count(*) FROM outbox")) or 0)


async def write(store: Database, service: Service = Service.GATEWAY) -> None:
    async with store.transaction() as session:
        await enqueue(session, service, MODELS_CHANGED, None, CHANGED)


async def test_a_committed_row_is_published_once_and_deleted(store: Database) -> None:
    broker = MemoryBroker()
    relay = OutboxRelay(store, broker.bus(), Service.GATEWAY)
    await write(store)

    assert await relay.relay_once() == 1
    assert await relay.relay_once() == 0
    assert [message for _, message in broker.published] == [CHANGED]
    assert await num_rows(store) == 0


async def test_a_transaction_that_fails_says_nothing(store: Database) -> None:
    with pytest.raises(RuntimeError):
        async with store.transaction() as session:
            await enqueue(session, Service.GATEWAY, MODELS_CHANGED, None, CHANGED)
            raise RuntimeError("rolled back")
    assert await num_rows(store) == 0


async def test_each_service_publishes_only_its_own_rows(store: Database, owner: Database) -> None:
    broker = MemoryBroker()
    await write(owner, Service.SCHEDULER)
    await write(store)

    assert await OutboxRelay(store, broker.bus(), Service.GATEWAY).relay_once() == 1
    assert await num_rows(owner) == 1
    assert await OutboxRelay(owner, broker.bus(), Service.SCHEDULER).relay_once() == 1
    assert await num_rows(owner) == 0


PLANTED = "VALUES ('scheduler', 'event.models.changed', '{\"model_ids\": []}')"


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO outbox (service, subject, body) {PLANTED}",
        "UPDATE outbox SET service = 'scheduler'",
    ],
    ids=["inserted", "changed"],
)
async def test_a_gateways_role_cannot_write_what_the_scheduler_would_publish(
    store: Database, owner: Database, statement: str
) -> None:
    await write(store)
    with pytest.raises(DBAPIError, match="row-level security"):
        async with store.transaction() as session:
            await session.execute(text(statement))

    relay = OutboxRelay(owner, MemoryBroker().bus(), Service.SCHEDULER)
    assert await relay.relay_once() == 0


async def test_a_gateways_role_neither_sees_nor_deletes_what_the_scheduler_publishes(
    store: Database, owner: Database
) -> None:
    await write(owner, Service.SCHEDULER)
    assert await num_rows(store) == 0
    async with store.transaction() as session:
        await session.execute(text("UPDATE outbox SET service = 'gateway'"))
        await session.execute(text("DELETE FROM outbox"))

    assert await OutboxRelay(owner, MemoryBroker().bus(), Service.SCHEDULER).relay_once() == 1


async def test_a_row_whose_subject_is_anothers_is_dropped(store: Database) -> None:
    broker = MemoryBroker()
    assigned = RequestAssigned(request_id="request-1", attempt=1, endpoint_id="ep-1", epoch=1)
    async with store.transaction() as session:
        await enqueue(session, Service.GATEWAY, REQUEST_ASSIGNED, "request-1", assigned)

    assert await OutboxRelay(store, broker.bus(), Service.GATEWAY).relay_once() == 1
    assert broker.published == [] and await num_rows(store) == 0


async def test_a_row_stays_when_the_bus_cannot_take_it(store: Database) -> None:
    class DeafBus:
        async def publish(self, *_: object) -> None:
            raise BusError("x", "down")

    await write(store)
    with pytest.raises(BusError):
        await OutboxRelay(store, DeafBus(), Service.GATEWAY).relay_once()  # type: ignore[arg-type]  # only publish is used
    assert await num_rows(store) == 1


async def test_the_message_continues_the_writers_trace(store: Database) -> None:
    broker = MemoryBroker()
    listener, seen = broker.bus(), list[str | None]()

    async def handle(message: Message) -> None:
        seen.append(telemetry.current_traceparent())

    await listener.subscribe(MODELS_CHANGED, None, handle)
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with telemetry.remote_context({"traceparent": traceparent}):
        await write(store)

    await OutboxRelay(store, broker.bus(), Service.GATEWAY).relay_once()
    await eventually(lambda: seen == [traceparent])
    await listener.close()


@pytest.mark.parametrize(
    ("subject", "token", "body"),
    [
        ("of.another.version", None, "{}"),
        (MODELS_CHANGED.pattern, None, '{"model_ids": [], "a_later_field": 1}'),
        (MODELS_CHANGED.pattern, None, '{"model_ids": "none"}'),
        (MODELS_CHANGED.pattern, "a-token-it-has-no-place-for", '{"model_ids": []}'),
    ],
    ids=["subject", "new field", "wrong type", "token"],
)
async def test_a_row_that_cannot_be_published_is_dropped_and_the_others_go_out(
    store: Database,
    caplog: pytest.LogCaptureFixture,
    subject: str,
    token: str | None,
    body: str,
) -> None:
    broker = MemoryBroker()
    await write(store)
    async with store.transaction() as session:
        insertion = text(
            "INSERT INTO outbox (service, subject, token, body)"
            " VALUES ('gateway', :subject, :token, CAST(:body AS jsonb)) RETURNING id"
        )
        row_id = await session.scalar(insertion, {"subject": subject, "token": token, "body": body})
    await write(store)

    assert await OutboxRelay(store, broker.bus(), Service.GATEWAY).relay_once() == 3

    assert [message for _, message in broker.published] == [CHANGED, CHANGED]
    assert await num_rows(store) == 0
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert str(row_id) in record.getMessage() and subject in record.getMessage()
