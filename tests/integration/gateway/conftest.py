"""A gateway over real NATS, Postgres and S3, serving HTTP; scheduler and worker are doubles."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest_asyncio
from blake3 import blake3
from sqlalchemy import insert, update

from deploy.local.state.ports import free_ports
from libs.common.bus.bus import NatsBus
from libs.common.bus.subjects import Service
from libs.common.objectstore.s3store import S3ObjectStore
from libs.common.records.database import Database
from libs.common.records.tables import ManifestRow, ModelRow
from libs.common.settings import ObjectStoreSettings
from libs.common.states import ModelState
from libs.common.weights.manifest import tokenizer_key
from services.gateway.bootstrap import open_backends, open_gateway
from services.gateway.context import Gateway
from services.gateway.http.app import create_app
from services.gateway.http.server import make_server, run_until
from services.gateway.settings import GatewaySettings, Limits, Timing
from tests.integration.servers import RunningNats, TestDatabase
from tests.unit.gateway.fakescheduler import FakeScheduler
from tests.unit.gateway.fakeworker import FakeWorker
from tests.unit.gateway.tiny import summary_of, tokenizer_files

BOOTSTRAP_KEY = "hs-bootstrap-key-of-the-test"
MANIFEST = "a" * 64


@dataclass
class RunningGateway:
    url: str
    settings: GatewaySettings
    gateway: Gateway
    client: httpx.AsyncClient
    scheduler: FakeScheduler
    worker: FakeWorker
    owner: Database  # the scheduler's view of Postgres
    stop: asyncio.Event
    serving: "asyncio.Task[None]"

    async def make_ready(self, name: str, max_context_tokens: int = 4096) -> str:
        """What the import would do: the manifest's row, and the model READY. Its id."""
        summary = summary_of(tokenizer_files(), max_context_tokens).model_dump(mode="json")
        async with self.owner.transaction() as session:
            await session.execute(insert(ManifestRow).values(digest=MANIFEST, summary=summary))
            model_id: str | None = await session.scalar(
                update(ModelRow)
                .where(ModelRow.name == name)
                .values(state=ModelState.READY.value, manifest_digest=MANIFEST)
                .returning(ModelRow.id)
            )
        await self.gateway.registry.refresh()
        assert model_id is not None
        return model_id

    async def register(self, name: str = "tiny", max_context_tokens: int = 4096) -> str:
        response = await self.client.post(
            "/api/v1/models", json={"name": name, "source": "/models/tiny"}
        )
        assert response.status_code == 202, response.text
        return await self.make_ready(name, max_context_tokens)


@pytest_asyncio.fixture
async def gateway_settings(
    nats_server: RunningNats,
    database: TestDatabase,
    object_store: ObjectStoreSettings,
    read_only_object_store: ObjectStoreSettings,
    tmp_path: Path,
) -> GatewaySettings:
    async with S3ObjectStore(object_store) as objects:
        for data in tokenizer_files().values():
            digest = blake3(data).hexdigest()
            await objects.put_bytes(tokenizer_key(digest), data, digest=digest)
    return GatewaySettings(
        gateway_id="gateway-1",
        host="127.0.0.1",
        port=free_ports(1)[0],
        database=database.gateway,
        bus=nats_server.settings(Service.GATEWAY),
        object_store=read_only_object_store,
        bootstrap_api_key=BOOTSTRAP_KEY,
        health_file=tmp_path / "health",
        tokenizer_folder=tmp_path / "tokenizers",
        drain_timeout_s=5.0,
        log_level="INFO",
        timing=replace(Timing(), heartbeat_s=0.1),
        limits=Limits(num_template_processes=1),
    )


@pytest_asyncio.fixture
async def running(
    gateway_settings: GatewaySettings, nats_server: RunningNats, database: TestDatabase
) -> AsyncIterator[RunningGateway]:
    settings, stop = gateway_settings, asyncio.Event()
    async with AsyncExitStack() as stack:
        owner = Database.open(database.owner)
        stack.push_async_callback(owner.close)
        backends = await stack.enter_async_context(open_backends(settings))
        gateway = await stack.enter_async_context(open_gateway(settings, backends))
        server = make_server(create_app(gateway, settings.limits.max_body_bytes), settings)
        serving = asyncio.create_task(run_until(stop, server, gateway, settings.drain_timeout_s))
        stack.push_async_callback(_ended, stop, serving)
        client = await stack.enter_async_context(_client(settings))
        scheduler_bus = await NatsBus.connect(
            nats_server.settings(Service.SCHEDULER), Service.SCHEDULER, name="scheduler"
        )
        stack.push_async_callback(scheduler_bus.close)
        worker_bus = await NatsBus.connect(
            nats_server.settings(Service.WORKER), Service.WORKER, name="worker"
        )
        stack.push_async_callback(worker_bus.close)
        scheduler, worker = FakeScheduler(scheduler_bus), FakeWorker(worker_bus)
        await scheduler.start()
        await worker.start()
        await _answers(client)
        yield RunningGateway(
            str(client.base_url), settings, gateway, client, scheduler, worker, owner, stop, serving
        )


def _client(settings: GatewaySettings) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{settings.port}",
        headers={"Authorization": f"Bearer {BOOTSTRAP_KEY}"},
        timeout=30,
        trust_env=False,
    )


async def _answers(client: httpx.AsyncClient) -> None:
    """Until the server listens and knows the bootstrap key."""
    async with asyncio.timeout(20):
        while True:
            try:
                if (await client.get("/v1/models")).status_code == 200:
                    return
            except httpx.ConnectError:
                pass
            await asyncio.sleep(0.05)


async def _ended(stop: asyncio.Event, serving: "asyncio.Task[None]") -> None:
    stop.set()
    await serving
