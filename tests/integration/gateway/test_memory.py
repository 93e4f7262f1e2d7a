"""The gateway's memory after large prompts is what it was before them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from blake3 import blake3
from sqlalchemy import insert, update

from deploy.local.state.ports import free_ports
from libs.common.bus.bus import NatsBus
from libs.common.bus.messages import SubmitRefused
from libs.common.bus.subjects import Service
from libs.common.objectstore.s3store import S3ObjectStore
from libs.common.reasons import Reason
from libs.common.records.database import Database
from libs.common.records.tables import ManifestRow, ModelRow
from libs.common.settings import ObjectStoreSettings
from libs.common.states import ModelState
from libs.common.weights.manifest import tokenizer_key
from tests.integration.gateway.conftest import BOOTSTRAP_KEY, MANIFEST
from tests.integration.gateway.test_process import environment, process, until_status
from tests.integration.servers import RunningNats, TestDatabase
from tests.support.waiting import eventually
from tests.unit.gateway.fakescheduler import FakeScheduler
from tests.unit.gateway.tiny import summary_of, tokenizer_files

MIB = 2**20
ALLOWED_MIB = 64  # more than before; the prompts are eight at a time, of up to 7 MiB


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_large_prompts_leave_nothing_behind(
    tmp_path: Path,
    nats_server: RunningNats,
    database: TestDatabase,
    object_store: ObjectStoreSettings,
    read_only_object_store: ObjectStoreSettings,
) -> None:
    await _put_files(object_store)
    port = free_ports(1)[0]
    env = environment(tmp_path, port, nats_server, database, read_only_object_store)
    env["HYDRA_GATEWAY_TENANT_BODY_BYTES_PER_S"] = "0"  # as fast as they come
    async with _refusing_scheduler(nats_server), process(env) as gateway, _client(port) as client:
        await until_status(client, "/readyz", 200)
        await _register(client, database)
        await _until_ready(client)
        await _ask_all(client, [100] * 20)
        before = _rss_mib(gateway.pid)

        await _ask_all(client, [7 * MIB, MIB // 8, MIB, 4 * MIB] * 10)

        assert _rss_mib(gateway.pid) < before + ALLOWED_MIB


async def _ask_all(client: httpx.AsyncClient, sizes: list[int]) -> None:
    """Eight at a time; each gets as far as the scheduler, or its prompt is too large."""
    turns = asyncio.Semaphore(8)

    async def ask(size: int) -> None:
        content = {"role": "user", "content": "word " * (size // 5)}
        body = json.dumps({"model": "tiny", "messages": [content]})
        async with turns:
            response = await client.post("/v1/chat/completions", content=body)
        assert response.status_code in (400, 422, 429), response.text

    await asyncio.gather(*map(ask, sizes))


async def _until_ready(client: httpx.AsyncClient) -> None:
    async def is_ready() -> bool:
        return bool((await client.get("/api/v1/models/tiny")).json()["state"] == "READY")

    await eventually(is_ready, timeout_s=30)


def _rss_mib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


async def _put_files(object_store: ObjectStoreSettings) -> None:
    async with S3ObjectStore(object_store) as objects:
        for data in tokenizer_files().values():
            digest = blake3(data).hexdigest()
            await objects.put_bytes(tokenizer_key(digest), data, digest=digest)


async def _register(client: httpx.AsyncClient, database: TestDatabase) -> None:
    """And what the import would do."""
    body = {"name": "tiny", "source": "/models/tiny"}
    assert (await client.post("/api/v1/models", json=body)).status_code == 202
    summary = summary_of(tokenizer_files(), max_context_tokens=2 * MIB).model_dump(mode="json")
    owner = Database.open(database.owner)
    async with owner.transaction() as session:
        await session.execute(insert(ManifestRow).values(digest=MANIFEST, summary=summary))
        ready = {"state": ModelState.READY.value, "manifest_digest": MANIFEST}
        await session.execute(update(ModelRow).values(**ready))
    await owner.close()


@asynccontextmanager
async def _refusing_scheduler(nats: RunningNats) -> AsyncIterator[None]:
    bus = await NatsBus.connect(nats.settings(Service.SCHEDULER), Service.SCHEDULER, name="s")
    refusal = SubmitRefused(code=Reason.QUEUE_FULL, message="full", retry_after_s=1)
    await FakeScheduler(bus, refusal=refusal).start()
    try:
        yield
    finally:
        await bus.close()


def _client(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        headers={"Authorization": f"Bearer {BOOTSTRAP_KEY}", "Content-Type": "application/json"},
        timeout=120,
        trust_env=False,
    )
