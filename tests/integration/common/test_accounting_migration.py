"""A stack that was there before accounting: its rows stay, and are counted from now on."""

from collections.abc import Callable

from alembic import command
from sqlalchemy import Connection, text

from libs.common.records.database import Database
from libs.common.records.migrate import alembic_config, migrate
from services.scheduler.store import workers
from tests.integration.servers import TestDatabase

BEFORE = "0025"
ROWS = """
INSERT INTO models (id, tenant, name, source, state, slo_ttft_ms, slo_tpot_ms, keep_alive_s,
    max_pipeline_size, max_queue, max_slots, max_endpoints)
VALUES ('m', 't', 'm', '/m', 'READY', 1, 1, 1, 1, 1, 1, 1);
INSERT INTO nodes (id) VALUES ('node-1');
INSERT INTO endpoints (id, tenant, model_id, epoch, state, max_slots, num_stages, created_at,
    ready_at, idle_since)
VALUES ('ep', 't', 'm', 1, 'STANDALONE', 1, 1, now() - interval '9 days', now() - interval '8 days',
    now() - interval '7 days');
INSERT INTO workers (id, endpoint_id, node_id, device_index, stage_index, state, spec, created_at)
VALUES ('w', 'ep', 'node-1', 0, 0, 'READY', '{}', now() - interval '9 days');
INSERT INTO reservations VALUES ('w', 'node-1', 0, 100);
INSERT INTO requests (id, tenant, model_id, gateway_id, attempt, state, num_prompt_tokens,
    max_tokens, deadline_at, is_slo_met)
VALUES ('r', 't', 'm', 'g', 1, 'ENDED', 1, 1, now(), false);
INSERT INTO usage VALUES ('t', 'm', current_date, 1, 2, 3)
"""


def to(revision: str, *, is_back: bool = False) -> Callable[[Connection], None]:
    move = command.downgrade if is_back else command.upgrade
    return lambda connection: move(alembic_config(connection), revision)


async def test_what_was_there_before_is_counted_from_the_migration_on(
    empty_database: TestDatabase,
) -> None:
    """It is idle for a week, and its row says so; what it holds now is idle time, and a second of
    it or less."""
    store = Database.open(empty_database.owner)
    async with store.engine.begin() as connection:
        await connection.run_sync(to(BEFORE))
    async with store.transaction() as session:
        for statement in ROWS.split(";"):
            await session.execute(text(statement))
    await migrate(empty_database.owner)

    async with store.transaction() as session:
        await workers.end_workers(session, {"w": None})
        sums = "starting_byte_s, busy_byte_s, idle_byte_s"
        starting, busy, idle = (await session.execute(text(f"SELECT {sums} FROM endpoints"))).one()
        assert (starting, busy) == (0, 0) and 0 < idle < 100 * 3600
        request = (
            await session.execute(text("SELECT slo_ttft_ms, ttft_ms, slo_miss FROM requests"))
        ).one()
        assert tuple(request) == (None, None, None)
        assert await session.scalar(text("SELECT num_requests FROM usage")) == 1

    async with store.engine.begin() as connection:
        await connection.run_sync(to(BEFORE, is_back=True))
    async with store.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM requests")) == 1
    await store.close()
