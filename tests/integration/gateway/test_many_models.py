"""A gateway with a hundred thousand registered models, as a process of its own."""

from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from deploy.local.state.ports import free_ports
from libs.common.records.database import Database
from libs.common.settings import ObjectStoreSettings
from tests.integration.gateway.conftest import BOOTSTRAP_KEY
from tests.integration.gateway.test_process import (
    children_of,
    environment,
    process,
    until_status,
)
from tests.integration.servers import RunningNats, TestDatabase
from tests.support.waiting import eventually

NUMBER = 100_000
MAX_MIB = 400  # of the process and its children
_MANIFESTS = """
INSERT INTO manifests (digest, summary)
SELECT 'digest-' || i, jsonb_build_object(
    'architecture', 'llama', 'dtype', 'bf16', 'num_layers', 16, 'vocab_size', 32000,
    'max_context_tokens', 4096, 'kv_bytes_per_token', 64, 'weight_bytes', 1000,
    'eos_token_ids', '[2]'::jsonb, 'tokenizer_files', '{}'::jsonb, 'units',
    (SELECT jsonb_agg(jsonb_build_object('kind', 'layer', 'layer', u, 'size_bytes', 15000000,
        'digest', md5(i || '-' || u) || md5(u || '-' || i))) FROM generate_series(1, 18) AS u))
FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS i
"""
_MODELS = """
INSERT INTO models (id, tenant, name, source, state, slo_ttft_ms, slo_tpot_ms, keep_alive_s,
    max_pipeline_size, max_queue, max_slots, max_endpoints, manifest_digest)
SELECT 'model-' || i, CASE WHEN i % 2 = 0 THEN 'default' ELSE 'tenant-' || i % 999 END, 'm' || i,
    '/m', 'READY', 1, 1, 1, 1, 1, 1, 1, 'digest-' || i
FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS i
"""


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_hundred_thousand_models_take_no_memory_and_each_is_found(
    tmp_path: Path,
    nats_server: RunningNats,
    database: TestDatabase,
    read_only_object_store: ObjectStoreSettings,
) -> None:
    await _seed(database)
    port = free_ports(1)[0]
    env = environment(tmp_path, port, nats_server, database, read_only_object_store)
    async with process(env) as gateway, _client(port) as client:
        await until_status(client, "/readyz", 200)

        for i in range(2, NUMBER, 9998):
            assert (await client.get(f"/api/v1/models/m{i}")).status_code == 200
        await _until_it_grows_no_more(gateway.pid)
        used = _rss_mib(gateway.pid) + sum(map(_rss_mib, children_of(gateway.pid)))

    assert used < MAX_MIB


async def _seed(database: TestDatabase) -> None:
    owner = Database.open(database.owner)
    for first in range(1, NUMBER, 10_000):
        for statement in (_MANIFESTS, _MODELS):
            async with owner.transaction() as session:
                values = {"first": first, "last": first + 9_999}
                await session.execute(text(statement), values)
    await owner.close()


async def _until_it_grows_no_more(pid: int) -> None:
    seen_mib = 0

    def grows_no_more() -> bool:
        nonlocal seen_mib
        before, seen_mib = seen_mib, _rss_mib(pid)
        return seen_mib <= before + 1

    await eventually(grows_no_more, timeout_s=60, poll_s=3)


def _rss_mib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


def _client(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        headers={"Authorization": f"Bearer {BOOTSTRAP_KEY}"},
        timeout=60,
        trust_env=False,
    )
