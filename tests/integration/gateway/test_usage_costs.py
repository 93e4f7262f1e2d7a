"""What is asked about usage looks at few rows, however long the history is: counted by Postgres."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.database import Database
from libs.common.states import SloMiss
from services.gateway.store.asked_requests import AskedRequests
from services.gateway.store.history import ViewStore
from services.gateway.store.usage import UsageStore
from tests.integration.servers import TestDatabase

NUM_PAST = 6_000  # endpoints and requests of one model
NUM_LIVE = 20
MAX_ROWS = 1_000
HISTORY = f"""
INSERT INTO models (id, tenant, name, source, state, slo_ttft_ms, slo_tpot_ms, keep_alive_s,
    max_pipeline_size, max_queue, max_slots, max_endpoints)
SELECT id, 't', name, '/m', 'READY', 1, 1, 1, 1, 1, 1, 1
FROM (VALUES ('m', 'busy'), ('seldom', 'seldom late')) AS new (id, name);
INSERT INTO nodes (id) VALUES ('node-1');
INSERT INTO endpoints (id, tenant, model_id, epoch, state, max_slots, num_stages, ready_at,
    ended_at)
SELECT 'ep-' || i, 't', 'm', 1, CASE WHEN i <= {NUM_LIVE} THEN 'STANDALONE' ELSE 'STOPPED' END,
    1, 1, now(), CASE WHEN i > {NUM_LIVE} THEN now() - i * interval '7 minutes' END
FROM generate_series(1, {NUM_PAST}) i;
INSERT INTO workers (id, endpoint_id, node_id, device_index, stage_index, state, spec, is_desired)
SELECT 'worker-' || i, 'ep-' || i, 'node-1', 0, 0, 'STOPPED', '{{}}', false
FROM generate_series(1, {NUM_PAST}) i;
INSERT INTO reservations (worker_id, node_id, device_index, device_bytes)
SELECT 'worker-' || i, 'node-1', 0, 1 FROM generate_series(1, {NUM_LIVE}) i;
INSERT INTO memory_hours (tenant, model_id, hour)
SELECT 't', 'm' || i % 20, now() - i * interval '1 hour' FROM generate_series(1, {NUM_PAST}) i;
INSERT INTO slo_hours (tenant, model_id, hour)
SELECT 't', 'm' || i % 20, now() - i * interval '1 hour' FROM generate_series(1, {NUM_PAST}) i;
INSERT INTO usage (tenant, model_id, day)
SELECT 't', 'm' || i % 20, current_date - i / 20 FROM generate_series(0, {NUM_PAST}) i;
INSERT INTO requests (id, tenant, model_id, gateway_id, attempt, state, num_prompt_tokens,
    max_tokens, deadline_at, arrived_at, ended_at, slo_miss)
SELECT 'request-' || i, 't', CASE WHEN i % 200 = 0 THEN 'm' ELSE 'other' END, 'g', 1, 'ENDED', 1, 1,
    now(), now() - i * interval '5 seconds', now(), CASE WHEN i % 100 = 0 THEN 'queue' END
FROM generate_series(1, {NUM_PAST}) i;
INSERT INTO requests (id, tenant, model_id, gateway_id, attempt, state, num_prompt_tokens,
    max_tokens, deadline_at, arrived_at, ended_at, slo_miss)
SELECT id || '-' || i, 't', id, 'g', 1, 'ENDED', 1, 1, now(), now() - i * interval '5 seconds',
    now(), CASE WHEN i % every = 0 THEN 'queue' END
FROM (VALUES ('seldom', 300), ('always', 1)) AS late (id, every), generate_series(1, {NUM_PAST}) i
"""
TABLES = [
    *("endpoints", "memory_hours", "requests", "reservations", "slo_hours", "usage", "workers"),
]
LOOKED_AT = """
SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0) FROM pg_stat_xact_user_tables
WHERE relname = ANY(:tables)
"""


@dataclass
class OneTransaction:
    """In a database's place: everything is asked in one transaction, which is counted."""

    session: AsyncSession

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        yield self.session

    async def num_looked_at(self) -> int:
        return int(await self.session.scalar(text(LOOKED_AT), {"tables": TABLES}) or 0)


@pytest_asyncio.fixture
async def counting(database: TestDatabase) -> AsyncIterator[OneTransaction]:
    store = Database.open(database.owner)
    async with store.transaction() as session:
        for statement in HISTORY.split(";"):
            await session.execute(text(statement))
        await session.execute(text("ANALYZE"))
    async with store.transaction() as session:
        yield OneTransaction(session)
    await store.close()


async def test_nothing_that_is_asked_looks_at_the_whole_history(counting: OneTransaction) -> None:
    database = cast(Database, counting)
    usage, views = UsageStore(database), ViewStore(database)

    def requests(model: str | None, miss: SloMiss | None) -> Awaitable[object]:
        return views.requests("t", AskedRequests(model, False, miss, hours=24, limit=20))

    asked: dict[str, Callable[[], Awaitable[object]]] = {
        "a tenant's day": lambda: usage.report("t", 24, 200),
        "everybody's day": lambda: usage.report(None, 24, 200),
        "a model's hour and day": lambda: usage.of_model("t", "m", (1, 24)),
        "a week by days": lambda: usage.days("t", 7, 100),
        "requests": lambda: requests(None, None),
        "late requests": lambda: requests(None, SloMiss.QUEUE),
        "requests of a model": lambda: requests("busy", None),
        "late requests of a model": lambda: requests("busy", SloMiss.QUEUE),
        "of one that is seldom late": lambda: requests("seldom late", SloMiss.QUEUE),
        "live endpoints": lambda: views.endpoints("t", has_ended=False),
    }
    looked_at = {}
    for name, ask in asked.items():
        before = await counting.num_looked_at()
        await ask()
        looked_at[name] = await counting.num_looked_at() - before

    assert {name: num for name, num in looked_at.items() if num > MAX_ROWS} == {}
    assert min(looked_at.values()) > 0, looked_at
