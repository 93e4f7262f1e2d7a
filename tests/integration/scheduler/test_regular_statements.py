"""What the scheduler asks the database regularly, or for each request, looks at few rows, however
many models there are and however long the history is: counted by Postgres itself."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.database import Database
from libs.common.states import ConsolidationState
from services.scheduler.intake import import_ends
from services.scheduler.settings import DAY_S
from services.scheduler.store import (
    damaged_objects,
    desired,
    endpoints,
    fleet,
    measurements,
    models,
    queue,
    requests,
    retention,
)
from services.scheduler.store.accounting import accounts, memory_accounts
from services.scheduler.store.consolidations.ends import ConsolidationEnd, end_of_endpoints
from services.scheduler.store.fetching import prefetches
from services.scheduler.store.starts import coldstarts
from tests.integration.servers import TestDatabase

Ask = Callable[[AsyncSession], Awaitable[object]]

NUM_MODELS = 4_000
NUM_ENDED = 6_000
NUM_LIVE = 20
MAX_ROWS = 400  # of the few that are meant, some in several tables
HISTORY = f"""
INSERT INTO manifests (digest, summary, created_at)
SELECT 'manifest-' || i, jsonb_build_object(
    'units', jsonb_build_array(jsonb_build_object('digest', 'unit-' || i, 'size_bytes', 1)),
    'tokenizer_files', jsonb_build_object('a.json', jsonb_build_array('file-' || i, 1))),
    now() - interval '50 days'
FROM generate_series(1, {NUM_MODELS}) i;
INSERT INTO models (id, tenant, name, source, state, slo_ttft_ms, slo_tpot_ms, keep_alive_s,
    max_pipeline_size, max_queue, max_slots, max_endpoints, manifest_digest, import_id)
SELECT 'model-' || i, 't', 'm' || i, '/m',
    CASE WHEN i % 1000 = 1 THEN 'IMPORTING' WHEN i % 1000 = 2 THEN 'DELETING' ELSE 'READY' END,
    1, 1, 1, 1, 1, 1, 1, 'manifest-' || i, 'import-' || i
FROM generate_series(1, {NUM_MODELS}) i;
UPDATE models SET updated_at = now() - interval '40 days' WHERE id = 'model-1002';
INSERT INTO nodes (id) SELECT 'node-' || i FROM generate_series(1, 50) i;
INSERT INTO measurements (model_id, quantity, "values")
SELECT 'model-' || i, 'step_' || k || '_s', '{{1, 2}}'
FROM generate_series(1, {NUM_MODELS}) i, generate_series(1, 2) k;
INSERT INTO measurements (node_id, quantity, "values")
SELECT 'node-' || i, 'tail_s', '{{1, 2}}' FROM generate_series(1, 50) i;
INSERT INTO endpoints (id, tenant, model_id, epoch, state, max_slots, num_stages, ended_at)
SELECT 'endpoint-' || i, 't', 'model-' || (10 + i % 900), 1,
    CASE WHEN i <= {NUM_LIVE} THEN 'STANDALONE' WHEN i % 3 = 0 THEN 'FAILED' ELSE 'STOPPED' END,
    1, 1, CASE WHEN i > {NUM_LIVE} THEN now() - i * interval '7 minutes' END
FROM generate_series(1, {NUM_ENDED}) i;
INSERT INTO workers (id, endpoint_id, node_id, device_index, stage_index, state, spec, is_desired,
    ended_at)
SELECT 'worker-' || i, 'endpoint-' || i, 'node-' || (1 + i % 50), 0, 0,
    CASE WHEN i <= {NUM_LIVE} THEN 'READY' ELSE 'STOPPED' END, '{{}}', i <= {NUM_LIVE},
    CASE WHEN i > {NUM_LIVE} THEN now() END
FROM generate_series(1, {NUM_ENDED}) i;
INSERT INTO endpoint_members
SELECT 'endpoint-' || i, 1, 'worker-' || i, 'entry', 0, 0, 1, 'full'
FROM generate_series(1, {NUM_ENDED}) i;
INSERT INTO fetches (id, node_id, endpoint_id, worker_id, purpose, fetch_class, manifest_digest,
    unit_digests, is_desired)
SELECT 'fetch-' || i, 'node-' || (1 + i % 50), 'endpoint-' || i, 'worker-' || i, 'start',
    'interactive', 'm', '[]', i <= {NUM_LIVE}
FROM generate_series(1, {NUM_ENDED}) i;
INSERT INTO fetches (id, node_id, purpose, fetch_class, manifest_digest, unit_digests, is_desired,
    deadline_at)
SELECT 'ahead-' || i, 'node-' || (1 + i % 50), 'prefetch', 'background', 'm', '[]', i <= {NUM_LIVE},
    now()
FROM generate_series(1, {NUM_ENDED}) i;
INSERT INTO prefetches (id, tenant, model_id, node_id, fetch_id, file_bytes, state, expires_at,
    ended_at)
SELECT 'prefetch-' || i, 't', 'model-' || (10 + i % 900), 'node-' || (1 + i % 50), 'ahead-' || i, 1,
    CASE WHEN i <= {NUM_LIVE} THEN 'RUNNING' ELSE 'UNUSED' END, now(),
    CASE WHEN i > {NUM_LIVE} THEN now() - i * interval '7 minutes' END
FROM generate_series(1, {NUM_ENDED}) i;
INSERT INTO consolidations (id, tenant, model_id, endpoint_id, generation, worker_id, fetch_id,
    state, why, load_bytes, freed_bytes, kv_bytes, timeout_s, is_retried, started_at, ended_at)
SELECT 'consolidation-' || i, 't', 'model-' || (10 + i % 900), 'endpoint-' || i, 2, 'worker-' || i,
    'fetch-' || i, CASE WHEN i <= {NUM_LIVE} THEN 'LOADING' ELSE 'ABANDONED' END, '', 1, 1, 1, 1,
    i > {NUM_LIVE}, now() - i * interval '7 minutes', CASE WHEN i > {NUM_LIVE} THEN now() END
FROM generate_series(1, {NUM_ENDED}) i;
INSERT INTO model_activity (model_id, gaps, prefetch_at, prefetch_until)
SELECT 'model-' || i, '', now() + (i - {NUM_LIVE}) * interval '7 minutes',
    now() + i * interval '7 minutes'
FROM generate_series(1, {NUM_MODELS}) i;
INSERT INTO reservations (worker_id, node_id, device_index, device_bytes, counted_until)
SELECT 'worker-' || i, 'node-' || (1 + i % 50), 0, 1, now() - interval '2 hours'
FROM generate_series(1, {NUM_LIVE}) i;
INSERT INTO cold_starts (id, tenant, model_id, endpoint_id, request_id, weight_bytes)
SELECT 'start-' || i, 't', 'model-' || (10 + i % 900), 'endpoint-' || i, 'request-' || i, 1
FROM generate_series(1, {NUM_ENDED}) i;
INSERT INTO cold_start_steps (cold_start_id, actor, name, started_at)
SELECT 'start-' || i, 'a', 's' || k, now()
FROM generate_series(1, {NUM_ENDED}) i, generate_series(1, 2) k;
INSERT INTO requests (id, tenant, model_id, gateway_id, attempt, state, num_prompt_tokens,
    max_tokens, deadline_at, ended_at, is_accounted, endpoint_id)
SELECT 'request-' || i, 't', 'model-' || (10 + i % 900), 'gateway-1', 1,
    CASE WHEN i <= {NUM_LIVE} THEN 'QUEUED' WHEN i <= {2 * NUM_LIVE} THEN 'ASSIGNED' ELSE 'ENDED'
    END, 1, 1, now() + interval '1 hour',
    CASE WHEN i > {2 * NUM_LIVE} THEN now() - i * interval '7 minutes' END,
    i % 1000 > 0, CASE WHEN i > {NUM_LIVE} THEN 'endpoint-1' END
FROM generate_series(1, {NUM_ENDED}) i;
INSERT INTO memory_hours (tenant, model_id, hour)
SELECT 't', 'model-' || (10 + i % 900), now() - i * interval '7 minutes'
FROM generate_series(1, {NUM_ENDED}) i;
INSERT INTO slo_hours (tenant, model_id, hour)
SELECT 't', 'model-' || (10 + i % 900), now() - i * interval '7 minutes'
FROM generate_series(1, {NUM_ENDED}) i
"""
# Of tables that grow with models or with time.
TABLES = (
    *("cold_start_steps", "cold_starts", "consolidations", "endpoint_members", "endpoints"),
    *(
        "fetches",
        "manifests",
        "measurements",
        "memory_hours",
        "model_activity",
        "models",
        "prefetches",
    ),
    *("request_losses", "requests", "reservations", "slo_hours", "workers"),
)
LOOKED_AT = """
SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0) FROM pg_stat_xact_user_tables
WHERE relname = ANY(:tables)
"""
IDS = [f"request-{i}" for i in range(1, 11)]
NODES = {f"node-{i}": 1 for i in range(1, 5)}
NO_MORE = {"endpoint-7": ConsolidationEnd(ConsolidationState.ABANDONED, "too slow")}


async def spoiled(session: AsyncSession) -> object:
    for key in ("units/unit-7", "tokenizers/file-8", "manifests/manifest-9"):
        await damaged_objects.mark(session, key, "node-1", None)
    found = await damaged_objects.take_spoiled(session)
    needed = await damaged_objects.needed_by(session, "manifest-8")
    assert sorted(item.model_id for item in found) == ["model-7", "model-8", "model-9"]
    assert needed == ["tokenizers/file-8"]
    return found


async def healed(session: AsyncSession) -> object:
    await damaged_objects.mark(session, "units/unit-7", "node-1", None)
    failed = "UPDATE models SET state = 'FAILED' WHERE id = 'model-7'"
    await (await session.connection()).exec_driver_sql(failed)
    assert await damaged_objects.forget(session, ["units/unit-7", "units/other"]) == ["model-7"]
    return None


STATEMENTS: dict[str, Ask] = {
    "a model, by a submission": lambda s: models.find(s, "model-7", 0.0),
    "imports to put": lambda s: models.take_silent_imports(s, 30.0),
    "imports that have not ended": models.load_import_ids,
    "damage, where there is none": import_ends.follow_damage,
    "late failures": lambda s: fleet.load_failures(s, 0.0, 60.0),
    "versions of open requests": requests.load_versions,
    "all open requests": lambda s: requests.load_open(s, 0.0),
    "requests by id": lambda s: requests.load_open(s, 0.0, model_ids=(), request_ids=IDS),
    "requests of a model": lambda s: requests.load_open(s, 0.0, model_ids=["model-11"]),
    "models of requests": lambda s: requests.load_model_ids(s, IDS),
    "a request, by a submission": lambda s: requests.find_locked(s, "request-7"),
    "who waits": queue.load_queues,
    "a place": lambda s: queue.queue_position(s, "request-7"),
    "places": lambda s: queue.load_queue_positions(s, IDS),
    "whether anything starts": lambda s: endpoints.has_open(s, "model-11"),
    "whether anything serves": lambda s: endpoints.has_serving(s, "model-11"),
    "the last failure": lambda s: endpoints.last_failure(s, "model-12"),
    "an endpoint, by a submission": lambda s: endpoints.find_past(s, "endpoint-77"),
    "accounts nobody closed": lambda s: accounts.close_unreported(s, 3600.0),
    "what nodes shall run": lambda s: desired.load(s, NODES, 1, {}),
    "what was measured of nodes": measurements.load_shared,
    "what was measured of models": lambda s: measurements.load_of_models(s, ["model-7"]),
    "an endpoint's consolidation": lambda s: end_of_endpoints(s, NO_MORE),
    "open prefetches": lambda s: prefetches.load_open(s, 0.0),
    "who may be asked soon": prefetches.load_expected,
    "old prefetches": lambda s: retention.delete_prefetches(s, 28 * DAY_S, 10),
    "a start's trace": lambda s: coldstarts.traceparents_of(s, IDS),
    "old requests": lambda s: retention.delete_requests(s, 29 * DAY_S, 10),
    "old endpoints": lambda s: retention.delete_endpoints(s, 28 * DAY_S, 10),
    "deleted models": lambda s: retention.delete_models(s, 30 * DAY_S, 10),
    "memory of ended workers": lambda s: memory_accounts.release(s, ["worker-3", "worker-4"]),
    "memory of ended hours": lambda s: memory_accounts.count_ended_hours(s, 200),
    "old hours of memory": lambda s: retention.delete_memory_hours(s, 28 * DAY_S, 10),
    "old hours of SLOs": lambda s: retention.delete_slo_hours(s, 28 * DAY_S, 10),
}


@pytest_asyncio.fixture
async def store(database: TestDatabase) -> AsyncIterator[Database]:
    store = Database.open(database.owner)
    async with store.transaction() as session:
        for statement in HISTORY.split(";"):
            await session.execute(text(statement))
        await session.execute(text("ANALYZE"))
    yield store
    await store.close()


async def test_no_regular_statement_looks_at_all_models_or_at_the_history(
    store: Database,
) -> None:
    looked_at = {name: await _num_looked_at(store, ask) for name, ask in STATEMENTS.items()}

    assert {name: num for name, num in looked_at.items() if num > MAX_ROWS} == {}


@pytest.mark.parametrize("ask", [spoiled, healed])
async def test_models_that_need_a_damaged_object_are_found_by_an_index(
    store: Database, ask: Ask
) -> None:
    """Manifests are long: to read them all would take minutes."""
    assert await _num_looked_at(store, ask, ["manifests"]) < 20


async def _num_looked_at(store: Database, ask: Ask, tables: Sequence[str] = TABLES) -> int:
    """Rows; what it writes is rolled back."""
    values = {"tables": list(tables)}
    with pytest.raises(_Enough):
        async with store.transaction() as session:
            before = await session.scalar(text(LOOKED_AT), values)
            await ask(session)
            after = await session.scalar(text(LOOKED_AT), values)
            raise _Enough
    return int((after or 0) - (before or 0))


class _Enough(Exception):
    """The transaction is not to be committed."""
