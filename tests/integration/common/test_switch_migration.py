"""A stack whose pipelines became one worker before anybody measured how: its rows stay."""

from collections.abc import Callable

from alembic import command
from sqlalchemy import Connection, text

from libs.common.records.database import Database
from libs.common.records.migrate import alembic_config, migrate
from tests.integration.servers import TestDatabase

BEFORE = "0034"
ROWS = """
INSERT INTO models (id, tenant, name, source, state, slo_ttft_ms, slo_tpot_ms, keep_alive_s,
    max_pipeline_size, max_queue, max_slots, max_endpoints)
VALUES ('m', 't', 'm', '/m', 'READY', 1, 1, 1, 2, 1, 1, 1);
INSERT INTO nodes (id) VALUES ('node-1');
INSERT INTO endpoints (id, tenant, model_id, epoch, generation, state, max_slots, num_stages)
VALUES ('ep', 't', 'm', 1, 2, 'STANDALONE', 1, 1);
INSERT INTO workers (id, endpoint_id, node_id, device_index, stage_index, state, spec)
VALUES ('w', 'ep', 'node-1', 0, 0, 'READY', '{}');
INSERT INTO consolidations (id, tenant, model_id, endpoint_id, generation, worker_id, state, why,
    load_bytes, freed_bytes, kv_bytes, timeout_s, ended_at)
VALUES ('c', 't', 'm', 'ep', 2, 'w', 'COMPLETE', 'it pays', 1, 2, 3, 4, now())
"""
SWITCH = "SELECT switch, pause_p50_ms, pause_max_ms FROM consolidations"


def to(revision: str, *, is_back: bool = False) -> Callable[[Connection], None]:
    move = command.downgrade if is_back else command.upgrade
    return lambda connection: move(alembic_config(connection), revision)


async def test_of_an_earlier_switch_nothing_is_known_and_its_row_stays(
    empty_database: TestDatabase,
) -> None:
    store = Database.open(empty_database.owner)
    async with store.engine.begin() as connection:
        await connection.run_sync(to(BEFORE))
    async with store.transaction() as session:
        for statement in ROWS.split(";"):
            await session.execute(text(statement))
    await migrate(empty_database.owner)

    async with store.transaction() as session:
        assert tuple((await session.execute(text(SWITCH))).one()) == (None, None, None)
        await session.execute(text("UPDATE consolidations SET switch = '{}', pause_p50_ms = 1"))

    async with store.engine.begin() as connection:
        await connection.run_sync(to(BEFORE, is_back=True))
    async with store.transaction() as session:
        assert await session.scalar(text("SELECT state FROM consolidations")) == "COMPLETE"
    await store.close()
