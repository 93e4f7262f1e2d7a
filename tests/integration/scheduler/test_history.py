"""What has ended stays in the database for long; reading what lives must not read it."""

from sqlalchemy import text

from libs.common.records.database import Database
from services.scheduler.store import endpoints
from services.scheduler.store.fleet import load_failures, load_fleet
from services.scheduler.store.starts import coldstarts
from tests.integration.servers import TestDatabase

NUM_ENDED = 5_000
HISTORY = f"""
INSERT INTO models (id, tenant, name, source, state, slo_ttft_ms, slo_tpot_ms, keep_alive_s,
    max_pipeline_size, max_queue, max_slots, max_endpoints)
SELECT 'model-' || i, 't', 'm' || i, '/m', 'READY', 1, 1, 1, 1, 1, 1, 1
FROM generate_series(1, 50) i;
INSERT INTO nodes (id) VALUES ('node-1');
INSERT INTO endpoints (id, tenant, model_id, epoch, state, max_slots, num_stages, ended_at)
SELECT 'endpoint-' || i, 't', 'model-' || (1 + i % 50), 1,
    CASE WHEN i % 3 = 0 THEN 'FAILED' ELSE 'STOPPED' END, 1, 1,
    CASE WHEN i = 3 THEN now() ELSE now() - interval '1 hour' END
FROM generate_series(1, {NUM_ENDED}) i;
INSERT INTO workers (id, endpoint_id, node_id, device_index, stage_index, state, spec,
    is_desired)
SELECT 'worker-' || i, 'endpoint-' || i, 'node-1', 0, 0, 'STOPPED', '{{}}', false
FROM generate_series(1, {NUM_ENDED}) i;
INSERT INTO fetches (id, node_id, endpoint_id, worker_id, purpose, fetch_class, manifest_digest,
    unit_digests, is_desired)
SELECT 'fetch-' || i, 'node-1', 'endpoint-' || i, 'worker-' || i, 'start', 'interactive', 'm',
    '[]', false
FROM generate_series(1, {NUM_ENDED}) i;
INSERT INTO cold_starts (id, tenant, model_id, endpoint_id, request_id, traceparent, weight_bytes)
SELECT 'start-' || i, 't', 'model-1', 'endpoint-' || i, 'request-' || i, 'trace-' || i, 1
FROM generate_series(1, {NUM_ENDED}) i;
UPDATE endpoints SET state = 'DRAINING', ended_at = NULL WHERE id = 'endpoint-1';
INSERT INTO reservations (worker_id, node_id, device_index, device_bytes)
VALUES ('worker-2', 'node-1', 0, 1);
ANALYZE
"""
ROWS_SCANNED = """
SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_xact_user_tables
WHERE relname IN ('endpoints', 'workers', 'fetches', 'cold_starts')
"""


async def test_a_round_reads_little_of_what_has_ended(database: TestDatabase) -> None:
    store = Database.open(database.owner)
    async with store.transaction() as session:
        for statement in HISTORY.split(";"):
            await session.execute(text(statement))

    async with store.transaction() as session:
        fleet = await load_fleet(session, 0.0)
        await endpoints.last_failure(session, "model-4")
        await load_failures(session, 0.0, 60.0)
        traces = await coldstarts.traceparents_of(session, ["request-7"])
        scanned = await session.scalar(text(ROWS_SCANNED))
    await store.close()

    assert [endpoint.id for endpoint in fleet] == ["endpoint-1", "endpoint-2"]
    assert [len(endpoint.workers) for endpoint in fleet] == [0, 1]
    assert traces == {"request-7": "trace-7"}
    assert scanned == 0
