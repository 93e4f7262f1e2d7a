import asyncio
from collections.abc import Callable

import pytest
from alembic import command
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from libs.common.errors import DatabaseUnavailable, RowsRefused
from libs.common.records.database import Database, row_refusals
from libs.common.records.migrate import alembic_config, migrate
from libs.common.settings import DatabaseSettings
from tests.integration.servers import RunningPostgres, TestDatabase
from tests.support.readonlypostgres import read_only
from tests.support.waiting import eventually


async def test_the_migrations_make_what_the_tables_say(database: TestDatabase) -> None:
    def check(connection: Connection) -> None:
        command.check(alembic_config(connection))

    store = Database.open(database.owner)
    async with store.engine.begin() as connection:
        await connection.run_sync(check)  # raises when a table and its migration differ
    await store.close()


async def test_services_that_migrate_at_the_same_moment_do_it_once(
    empty_database: TestDatabase,
) -> None:
    await asyncio.gather(*(migrate(empty_database.owner) for _ in range(4)))

    store = Database.open(empty_database.owner)
    async with store.transaction() as session:
        versions = (await session.scalars(text("SELECT version_num FROM alembic_version"))).all()
    await store.close()
    assert len(versions) == 1


async def test_the_gateways_role_cannot_write_what_the_scheduler_decides(
    database: TestDatabase,
) -> None:
    store = Database.open(database.gateway)
    for statement in (
        "UPDATE leadership SET epoch = 99",
        "DELETE FROM reservations",
        "INSERT INTO nodes (id) VALUES ('node-x')",
        "DROP TABLE models",
    ):
        with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
            async with store.transaction() as session:
                await session.execute(text(statement))
    await store.close()


async def test_a_transaction_that_raises_leaves_nothing(database: TestDatabase) -> None:
    store = Database.open(database.owner)
    with pytest.raises(RuntimeError, match="half way"):
        async with store.transaction() as session:
            await session.execute(text("INSERT INTO nodes (id) VALUES ('node-x')"))
            raise RuntimeError("half way")

    async with store.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM nodes")) == 0
    await store.close()


async def test_connections_cut_by_the_server_are_replaced_unseen(database: TestDatabase) -> None:
    store = Database.open(database.owner, pool_size=2)
    async with store.transaction() as session:
        used = await (await session.connection()).get_raw_connection()
        driver = used.driver_connection
    assert driver is not None
    killer = Database.open(database.owner)
    async with killer.transaction() as session:
        await session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    await killer.close()
    await eventually(driver.is_closed, what="the end of the connection, as its driver sees it")

    async with store.transaction() as session:
        assert await session.scalar(text("SELECT 1")) == 1
    await store.close()


async def test_a_server_that_is_away_is_named_as_unavailable() -> None:
    nowhere = DatabaseSettings("postgresql://hydra@127.0.0.1:1/hydra", "secret-word")
    store = Database.open(nowhere)
    with pytest.raises(DatabaseUnavailable) as caught:
        async with store.transaction() as session:
            await session.execute(text("SELECT 1"))
    assert "secret-word" not in str(caught.value)
    await store.close()


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("SELECT CAST(:value AS text)", "a\x00b"),
        ("SELECT CAST(:value AS jsonb)", '{"text": "a\\u0000b"}'),
        ("SELECT CAST(:value AS jsonb)", "NaN"),
        ("SELECT CAST(CAST(:value AS text) AS bigint)", str(2**63)),
        ("SELECT CAST(:value AS bigint)", 2**63),
        ("SELECT CAST(:value AS bigint)", "many"),
        ("INSERT INTO nodes (id) SELECT CAST(:value AS text) FROM generate_series(1, 2)", "node-x"),
    ],
    ids=["NUL", "NUL in JSON", "no JSON", "out of range", "driver: range", "driver: type", "twice"],
)
async def test_values_that_cannot_be_stored_are_refused_and_not_called_an_outage(
    database: TestDatabase, statement: str, value: object
) -> None:
    store = Database.open(database.owner)
    with pytest.raises(RowsRefused), row_refusals():
        async with store.transaction() as session:
            await session.execute(text(statement), {"value": value})
    await store.close()


async def test_what_passes_by_itself_is_named_as_unavailable(database: TestDatabase) -> None:
    store = Database.open(database.owner, parameters={"statement_timeout": "20ms"})
    with pytest.raises(DatabaseUnavailable, match="statement timeout"), row_refusals():
        async with store.transaction() as session:
            await session.execute(text("SELECT pg_sleep(5)"))
    await store.close()


async def test_a_wrong_password_is_refused(database: TestDatabase) -> None:
    store = Database.open(DatabaseSettings(database.owner.url, "wrong"))
    with pytest.raises(Exception, match="password authentication failed"):
        async with store.transaction() as session:
            await session.execute(text("SELECT 1"))
    await store.close()


def upgrade_to(revision: str) -> Callable[[Connection], None]:
    return lambda connection: command.upgrade(alembic_config(connection), revision)


LIVE_WORKERS = """
INSERT INTO models (id, tenant, name, source, state, slo_ttft_ms, slo_tpot_ms, keep_alive_s,
    max_pipeline_size, max_queue, max_slots, max_endpoints)
VALUES ('model', 't', 'm', '/m', 'READY', 1, 1, 1, 1, 1, 1, 1);
INSERT INTO nodes (id) VALUES ('node');
INSERT INTO endpoints (id, tenant, model_id, epoch, state, max_slots, num_stages)
VALUES ('endpoint', 't', 'model', 1, 'DRAINING', 1, 1);
INSERT INTO workers (id, endpoint_id, node_id, device_index, stage_index, state, spec,
    fetch_class, is_desired)
SELECT id, 'endpoint', 'node', 0, 0, state, '{"manifest_digest": "m",
    "unit_digests": ["u", "v"], "layers": {"first_layer": 0, "last_layer": 1}}', 'background',
    is_desired
FROM (VALUES ('wanted', 'READY', true), ('leaving', 'READY', false), ('gone', 'STOPPED', false))
    AS workers (id, state, is_desired);
INSERT INTO reservations (worker_id, node_id, device_index, device_bytes)
VALUES ('wanted', 'node', 0, 1), ('leaving', 'node', 0, 1)
"""


async def test_workers_of_an_earlier_version_that_live_get_a_fetch_of_their_id(
    empty_database: TestDatabase,
) -> None:
    store = Database.open(empty_database.owner)
    async with store.engine.begin() as connection:
        await connection.run_sync(upgrade_to("0008"))
        for statement in LIVE_WORKERS.split(";"):
            await connection.execute(text(statement))
        await connection.run_sync(upgrade_to("head"))
        columns = "worker_id, endpoint_id, node_id, purpose, fetch_class, unit_digests, is_desired"
        rows = await connection.execute(text(f"SELECT id, {columns} FROM fetches ORDER BY id"))
        found = [tuple(row) for row in rows]
    await store.close()

    kept = ("endpoint", "node", "start", "background", ["u", "v"])
    assert found == [
        ("leaving", "leaving", *kept, False),
        ("wanted", "wanted", *kept, True),
    ]


async def test_a_server_that_takes_no_writes_is_named_as_unavailable_and_no_session_stays_so(
    database: TestDatabase, postgres_server: RunningPostgres
) -> None:
    store = Database.open(database.owner, pool_size=2)
    insertion, pid = (
        text("INSERT INTO nodes (id) VALUES ('node-x')"),
        text("SELECT pg_backend_pid()"),
    )
    async with read_only(postgres_server.server):
        async with store.transaction() as session:
            stale_pid = await session.scalar(pid)
        with pytest.raises(DatabaseUnavailable, match="takes no writes") as caught:
            async with store.transaction() as session:
                await session.execute(insertion)
    assert caught.value.sqlstate == "25006"

    async with store.transaction() as session:
        await session.execute(insertion)
        assert await session.scalar(pid) != stale_pid  # it may be one with the former primary
    await store.close()


async def test_an_outbox_of_an_earlier_version_keeps_its_rows_and_gets_its_policy(
    empty_database: TestDatabase,
) -> None:
    owner, gateway = Database.open(empty_database.owner), Database.open(empty_database.gateway)
    async with owner.engine.begin() as connection:
        await connection.run_sync(upgrade_to("0011"))
        await connection.execute(
            text(
                "INSERT INTO outbox (service, subject, body)"
                " VALUES ('scheduler', 'routes', '{}'), ('gateway', 'event.models.changed', '{}')"
            )
        )
        await connection.run_sync(upgrade_to("head"))

    seen = []
    for store in (owner, gateway):
        async with store.transaction() as session:
            services = await session.scalars(text("SELECT service FROM outbox ORDER BY service"))
            seen.append(list(services))
        await store.close()
    assert seen == [["gateway", "scheduler"], ["gateway"]]


SHORT_IMPORT = """
INSERT INTO manifests (digest, summary)
VALUES ('m', '{"units": [{"size_bytes": 30}, {"size_bytes": 12}]}');
INSERT INTO models (id, tenant, name, source, state, slo_ttft_ms, slo_tpot_ms, keep_alive_s,
    max_pipeline_size, max_queue, max_slots, max_endpoints, manifest_digest)
VALUES ('model', 't', 'm', '/m', 'READY', 1, 1, 1, 1, 1, 1, 1, 'm')
"""


async def test_a_ready_model_of_an_earlier_version_has_the_bytes_of_its_manifest(
    empty_database: TestDatabase,
) -> None:
    store = Database.open(empty_database.owner)
    async with store.engine.begin() as connection:
        await connection.run_sync(upgrade_to("0012"))
        for statement in SHORT_IMPORT.split(";"):
            await connection.execute(text(statement))
        await connection.run_sync(upgrade_to("head"))
        columns = "import_bytes_done, import_bytes_total"
        row = (await connection.execute(text(f"SELECT {columns} FROM models"))).one()
    await store.close()

    assert tuple(row) == (42, 42)


CACHED_UNITS = """
INSERT INTO nodes (id) VALUES ('holds-two'), ('holds-nothing');
INSERT INTO host_cache (node_id, unit_digest)
SELECT 'holds-two', repeat(digit, 64) FROM (VALUES ('a'), ('b')) AS units (digit)
"""


async def test_host_caches_of_an_earlier_version_are_kept_and_compared_with_the_nodes(
    empty_database: TestDatabase,
) -> None:
    store, no_units = Database.open(empty_database.owner), bytes(16)
    async with store.engine.begin() as connection:
        await connection.run_sync(upgrade_to("0024"))
        for statement in CACHED_UNITS.split(";"):
            await connection.execute(text(statement))
        await connection.run_sync(upgrade_to("head"))
        columns = "unit_digest, node_id"
        rows = await connection.execute(text(f"SELECT {columns} FROM host_cache ORDER BY 1"))
        found = [tuple(row) for row in rows]
        query = "SELECT id, num_cached_units, cached_units_digest FROM nodes ORDER BY id"
        nothing, two = (await connection.execute(text(query))).all()
    await store.close()

    assert found == [(b"\xaa" * 32, "holds-two"), (b"\xbb" * 32, "holds-two")]
    assert tuple(nothing) == ("holds-nothing", 0, no_units)
    assert (two.id, two.num_cached_units) == ("holds-two", 2)
    assert two.cached_units_digest != no_units, "a digest that fits no set: it is compared"
