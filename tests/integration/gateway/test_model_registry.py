"""The registry of models over a real Postgres, with more models than it may know."""

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import event, select, text, update

from libs.common.bus.bus import NatsBus
from libs.common.bus.subjects import Service
from libs.common.clock import SystemClock
from libs.common.reasons import Reason
from libs.common.records.database import Database
from libs.common.records.migrate import migrate
from libs.common.records.outbox import OutboxRelay
from libs.common.records.tables import ModelRow
from services.gateway.registry.known_model import ENTRY_BYTES
from services.gateway.registry.model_lists import ModelLists
from services.gateway.registry.model_lookup import BATCH_NAMES
from services.gateway.registry.model_registry import ModelRegistry
from services.gateway.store.history import ViewStore
from services.gateway.store.model_entry import ModelKey
from services.gateway.store.model_queries import ModelQueries
from services.gateway.store.models import ModelStore
from tests.integration.gateway.test_process import migrate_to
from tests.integration.servers import RunningNats, TestDatabase
from tests.support.waiting import eventually
from tests.unit.gateway.reasons import not_served

ACME = "acme"
_MANIFESTS = """
INSERT INTO manifests (digest, summary)
SELECT 'digest-' || i, jsonb_build_object(
    'architecture', 'llama', 'dtype', 'bf16', 'num_layers', 16, 'vocab_size', 32000,
    'max_context_tokens', 4096, 'kv_bytes_per_token', 64, 'weight_bytes', 1000,
    'eos_token_ids', '[2]'::jsonb, 'tokenizer_files', '{}'::jsonb, 'units', '"unread"'::jsonb)
FROM generate_series(1, CAST(:number AS int)) AS i
"""
_MODELS = """
INSERT INTO models (id, tenant, name, source, state, slo_ttft_ms, slo_tpot_ms, keep_alive_s,
    max_pipeline_size, max_queue, max_slots, max_endpoints, manifest_digest)
SELECT 'model-' || i, 'acme', 'm' || i, '/m', 'READY', 1, 1, 1, 1, 1, 1, 1, 'digest-' || i
FROM generate_series(1, CAST(:number AS int)) AS i
"""


class World:
    """Two gateways' registries over one database."""

    def __init__(self, owner: Database, database: Database) -> None:
        self.owner, self.database = owner, database
        self.store, self.queries = ModelStore(database), ModelQueries(database)

    def registry(self, num_entries: int = 1000) -> ModelRegistry:
        queries, max_bytes = ModelQueries(self.database), num_entries * ENTRY_BYTES
        return ModelRegistry(queries, SystemClock(), max_bytes, miss_wait_s=60.0)  # a busy machine

    async def execute(self, statement: Any, **values: object) -> None:
        async with self.owner.transaction() as session:
            await session.execute(statement, values)

    async def seed(self, number: int) -> None:
        for statement in (_MANIFESTS, _MODELS):
            await self.execute(text(statement), number=number)
        await self.execute(text("ANALYZE models, manifests"))

    async def create(self, name: str, **values: Any) -> str:
        settings = {
            "slo_ttft_ms": 1, "slo_tpot_ms": 1, "keep_alive_s": 1, "max_pipeline_size": 1,
            "max_queue": 1, "max_slots": 1, "max_endpoints": 1,
        }  # fmt: skip
        entry = await self.store.create(
            f"model-{name}", ACME, {"name": name, "source": "/m", **settings, **values}
        )
        return entry.model_id


@pytest_asyncio.fixture
async def world(database: TestDatabase) -> AsyncIterator[World]:
    owner, gateway = Database.open(database.owner), Database.open(database.gateway)
    yield World(owner, gateway)
    await owner.close()
    await gateway.close()


@contextmanager
def statements_of(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Each with its values."""
    noted: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, values: Any, *_: object) -> None:
        noted.append((statement, values))

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield noted
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)


async def test_a_change_that_commits_late_is_not_missed(world: World) -> None:
    await world.create("early")
    await world.create("late")
    registry = world.registry()
    await registry.refresh()
    async with world.owner.transaction() as session:
        await session.execute(update(ModelRow).where(ModelRow.name == "late").values(max_queue=7))
        await world.execute(update(ModelRow).where(ModelRow.name == "early").values(max_queue=7))
        await registry.refresh()  # sees a younger transaction's change, and not this one's
        assert (await registry.find(ACME, "early")).max_queue == 7

    await registry.refresh()

    assert (await registry.find(ACME, "late")).max_queue == 7


async def test_while_a_transaction_stays_open_each_change_is_read_once(world: World) -> None:
    await world.create("m1")
    registry = world.registry()
    await registry.refresh()
    async with world.owner.transaction() as session:
        await session.execute(text("UPDATE leadership SET taken_at = now()"))
        await world.execute(update(ModelRow).values(max_queue=7))
        await registry.refresh()
        with statements_of(world.database) as statements:
            for _ in range(3):
                await registry.refresh()

    assert not any("unnest" in statement for statement, _ in statements)


async def test_a_registry_begins_with_forty_thousand_models_of_which_it_may_know_some(
    world: World,
) -> None:
    await world.seed(40_000)
    registry = world.registry(num_entries=1000)

    with statements_of(world.database) as statements:
        await registry.refresh()

    assert len(registry.known_of(ACME)) == 1000
    assert len(statements) < 40, "and not one of them grows with the number of models"
    assert (await registry.find(ACME, "m39999")).context_tokens == 4096


async def test_what_changes_is_what_is_read_among_forty_thousand_models(world: World) -> None:
    await world.seed(40_000)
    registry = world.registry(num_entries=1000)
    await registry.refresh()
    (known, *_) = registry.known_of(ACME)
    await world.store.change(known.model_id, {"max_queue": 7})
    await world.execute(update(ModelRow).where(ModelRow.name == "m1").values(max_queue=8))

    with statements_of(world.database) as statements:
        await registry.refresh()

    (names,) = [values[1] for statement, values in statements if "unnest" in statement]
    assert set(names) <= {known.name, "m1"}
    assert (await registry.find(ACME, known.name)).max_queue == 7
    assert (await registry.find(ACME, "m1")).max_queue == 8


async def test_forty_thousand_changes_are_read_in_pages_while_requests_are_answered(
    world: World,
) -> None:
    await world.seed(40_000)
    registry = world.registry(num_entries=1000)
    await registry.refresh()
    await world.execute(update(ModelRow).values(max_queue=7))
    refreshing = asyncio.create_task(registry.refresh())

    with statements_of(world.database) as statements:
        asked = await registry.find(ACME, "m20000")
        assert not refreshing.done(), "nobody waits for the mass of changes"
        await refreshing

    assert asked.max_queue == 7
    sizes = [len(values[0]) for statement, values in statements if "unnest" in statement]
    assert max(sizes) <= BATCH_NAMES
    assert all(entry.max_queue == 7 for entry in registry.known_of(ACME))


async def test_a_thousand_misses_are_a_few_statements(world: World) -> None:
    await world.seed(2000)
    registry = world.registry(num_entries=10)
    await registry.refresh()

    with statements_of(world.database) as statements:
        found = await asyncio.gather(*(registry.find(ACME, f"m{i}") for i in range(1, 1001)))

    assert {entry.name for entry in found} == {f"m{i}" for i in range(1, 1001)}
    assert sum("unnest" in statement for statement, _ in statements) <= 1000 // BATCH_NAMES + 2


async def test_what_is_deleted_on_one_gateway_is_gone_on_the_other_and_its_name_is_free(
    world: World,
) -> None:
    first = await world.create("m1")
    registry = world.registry()
    await registry.refresh()
    await world.store.delete(first)

    await registry.refresh()
    with not_served(Reason.MODEL_NOT_FOUND):
        await registry.find(ACME, "m1")
    await world.execute(update(ModelRow).values(id="model-old"))
    second = await world.create("m1")
    await registry.refresh()

    assert (await registry.find(ACME, "m1")).model_id == second


async def test_a_registration_on_one_gateway_is_told_to_the_other(
    world: World, nats_server: RunningNats
) -> None:
    bus = await NatsBus.connect(nats_server.settings(Service.GATEWAY), Service.GATEWAY, name="g")
    registry = world.registry()
    running = asyncio.create_task(registry.run(bus))
    await eventually(lambda: registry.knows_all)
    relay = OutboxRelay(world.database, bus, Service.GATEWAY)

    await world.create("m1")
    await relay.relay_once()

    await eventually(lambda: len(registry.known_of(ACME)) == 1)
    running.cancel()
    await asyncio.wait([running])
    await bus.close()


async def test_a_summary_is_read_without_its_units_and_once_for_all_models_that_have_it(
    world: World,
) -> None:
    await world.seed(50)
    await world.execute(update(ModelRow).values(manifest_digest="digest-1"))
    registry = world.registry()
    await registry.refresh()

    facts = [entry.summary for entry in registry.known_of(ACME)]
    assert len(facts) == 50 and facts[0] is not None
    assert all(each is facts[0] for each in facts)


async def test_a_summary_that_cannot_be_read_costs_its_own_model_alone(world: World) -> None:
    await world.seed(3)
    await world.execute(text("UPDATE manifests SET summary = '{}' WHERE digest = 'digest-2'"))
    registry = world.registry()

    await registry.refresh()

    assert [entry.can_be_asked for entry in registry.known_of(ACME)] == [True, False, True]


_PROGRESS = {"import_bytes_done", "import_bytes_total", "import_heard_at", "updated_at"}
_VALUES: dict[str, object] = {"state": "FAILED", "engine": "stage", "manifest_digest": "digest-2"}


@pytest.mark.parametrize("column", [c.name for c in ModelRow.__table__.columns])
async def test_every_column_but_progress_is_a_change(world: World, column: str) -> None:
    if column in ("changed_xid", "chat_template"):  # a template changes with its digest
        return
    await world.seed(2)
    await world.execute(text("DELETE FROM models WHERE id = 'model-2'"))
    before = await _changed_xid(world)
    kind = ModelRow.__table__.columns[column].type.python_type
    value = _VALUES.get(column, {str: "x", int: 99, float: 99.0, bool: True}.get(kind))
    new = text("now() + interval '1 day'") if value is None else value
    await world.execute(update(ModelRow).values({column: new, "updated_at": text("now()")}))

    assert (await _changed_xid(world) != before) == (column not in _PROGRESS)


async def _changed_xid(world: World) -> int:
    async with world.owner.transaction() as session:
        return (await session.scalars(select(ModelRow.changed_xid))).one()


async def test_lists_are_pages_by_name_without_a_gap(world: World) -> None:
    await world.seed(2500)
    await world.execute(text("UPDATE models SET state = 'FAILED' WHERE name LIKE '%5'"))
    await world.execute(text("UPDATE models SET state = 'DELETING' WHERE name = 'm1'"))
    lists = ModelLists(world.queries, world.registry())

    names, after, num_pages = [], "", 0
    while True:
        page = await lists.page(ACME, after, 1000)
        names += [entry.name for entry in page.items]
        num_pages += 1
        if not page.has_more:
            break
        after = names[-1]
    askable = await lists.askable_page(ACME, "", 10_000)

    assert num_pages == 3
    assert len(names) == len(set(names)) == 2499
    assert {item.name for item in askable.items} == {n for n in names if not n.endswith("5")}


async def test_no_statement_of_a_gateway_about_models_reads_all_of_them(world: World) -> None:
    await world.seed(20_000)
    registry, views = world.registry(num_entries=200), ViewStore(world.database)
    with statements_of(world.database) as statements:
        await registry.refresh()
        await registry.refresh()
        await world.queries.page(ACME, "m5", 100)
        await world.queries.askable_page(ACME, "m5", 100)
        await views.cold_starts(ACME, "m7", 50)
        await views.endpoints(ACME, has_ended=True)

    async with world.owner.transaction() as session:
        connection = (await (await session.connection()).get_raw_connection()).driver_connection
        assert connection is not None
        for statement, values in statements:
            if not statement.lstrip().startswith("SELECT") or "newest" in statement:
                continue  # the one by which it begins joins models with all living endpoints
            plan = "\n".join(r[0] for r in await connection.fetch(f"EXPLAIN {statement}", *values))
            assert not re.search(r"Seq Scan on (models|manifests)", plan), plan


async def test_what_lives_is_listed_without_a_look_at_what_has_ended(world: World) -> None:
    await world.seed(10)
    await world.execute(
        text(
            """
            INSERT INTO endpoints (id, tenant, model_id, epoch, state, max_slots, num_stages,
                created_at)
            SELECT 'ep-' || i, 'acme', 'model-' || 1 + i % 10, 1,
                CASE WHEN i <= 20 THEN 'STANDALONE' ELSE 'STOPPED' END, 4, 1,
                now() + make_interval(secs => i)
            FROM generate_series(1, 30000) AS i
            """
        )
    )
    await world.execute(text("ANALYZE endpoints"))
    views = ViewStore(world.database)

    living = await _rows_looked_at(world, views.endpoints(ACME, has_ended=False))
    ended = await _rows_looked_at(world, views.endpoints(ACME, has_ended=True))

    assert living <= 50 and ended <= 300


async def _rows_looked_at(world: World, asking: Coroutine[Any, Any, object]) -> int:
    """Of endpoints, by the first statement."""
    with statements_of(world.database) as statements:
        await asking
    statement, values = statements[0]
    async with world.owner.transaction() as session:
        connection = (await (await session.connection()).get_raw_connection()).driver_connection
        assert connection is not None
        rows = await connection.fetch(f"EXPLAIN (ANALYZE) {statement}", *values)
    plan = "\n".join(row[0] for row in rows)
    scans = re.findall(r"on endpoints.*actual.*rows=(\d+)", plan)
    removed = re.findall(r"Rows Removed by Filter: (\d+)", plan)
    return sum(map(int, scans + removed))


async def test_models_of_an_earlier_version_are_known(empty_database: TestDatabase) -> None:
    await migrate_to(empty_database, "0021")
    owner, gateway = Database.open(empty_database.owner), Database.open(empty_database.gateway)
    world = World(owner, gateway)
    await world.seed(5)
    await migrate(empty_database.owner)
    registry = world.registry()

    await registry.refresh()
    await world.store.change("model-3", {"max_queue": 7})
    await registry.refresh()

    assert [entry.max_queue for entry in registry.known_of(ACME)] == [1, 1, 7, 1, 1]
    await owner.close()
    await gateway.close()


async def test_a_registry_knows_first_the_models_that_serve(world: World) -> None:
    await world.seed(1000)
    await world.execute(
        text(
            """
            INSERT INTO endpoints (id, tenant, model_id, epoch, state, max_slots, num_stages)
            SELECT 'ep-' || i, 'acme', 'model-' || i, 1,
                CASE WHEN i <= 5 THEN 'STANDALONE' ELSE 'STOPPED' END, 4, 1
            FROM generate_series(1, 10) AS i
            """
        )
    )
    registry = world.registry(num_entries=8)
    await registry.refresh()

    known = {entry.key for entry in registry.known_of(ACME)}
    assert known >= {ModelKey(ACME, f"m{i}") for i in range(1, 6)}
    assert len(known) == 8
