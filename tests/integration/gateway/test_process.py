"""`python -m services.gateway` as a process of its own: it starts in any order and ends cleanly."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from alembic import command

from deploy.local.state.ports import free_ports
from libs.common.bus.subjects import Service
from libs.common.records.database import Database
from libs.common.records.migrate import alembic_config, migrate
from libs.common.settings import ObjectStoreSettings
from tests.integration.gateway.conftest import BOOTSTRAP_KEY
from tests.integration.servers import RunningNats, TestDatabase


def environment(
    folder: Path, port: int, nats: RunningNats, database: TestDatabase, store: ObjectStoreSettings
) -> dict[str, str]:
    bus = nats.settings(Service.GATEWAY)
    secrets = {
        "NATS_PASSWORD": bus.password,
        "DATABASE_PASSWORD": database.gateway.password,
        "S3_ACCESS_KEY": store.access_key,
        "S3_SECRET_KEY": store.secret_key,
        "BOOTSTRAP_API_KEY": BOOTSTRAP_KEY,
    }
    for name, value in secrets.items():
        (folder / name).write_text(value)
    plain = {
        "GATEWAY_PORT": str(port),
        "NATS_URL": bus.url,
        "NATS_USER": bus.user,
        "DATABASE_URL": database.gateway.url,
        "S3_ENDPOINT": store.endpoint,
        "S3_BUCKET": store.bucket,
        "HEALTH_FILE": str(folder / "health"),
        "TRACE_DIR": str(folder / "traces"),
    }
    files = {f"{name}_FILE": str(folder / name) for name in secrets}
    return {f"HYDRA_{name}": value for name, value in (plain | files).items()}


@asynccontextmanager
async def process(env: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.gateway", env={**os.environ, **env},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def until_status(client: httpx.AsyncClient, path: str, status: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                if (await client.get(path)).status_code == status:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


def children_of(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def migrate_to(database: TestDatabase, revision: str) -> None:
    store = Database.open(database.owner)
    async with store.engine.begin() as connection:
        await connection.run_sync(lambda sync: command.upgrade(alembic_config(sync), revision))
    await store.close()


async def test_it_waits_for_the_columns_that_an_earlier_version_did_not_have(
    tmp_path: Path,
    nats_server: RunningNats,
    empty_database: TestDatabase,
    read_only_object_store: ObjectStoreSettings,
) -> None:
    await migrate_to(empty_database, "0011")
    port = free_ports(1)[0]
    env = environment(tmp_path, port, nats_server, empty_database, read_only_object_store)
    async with (
        process(env) as gateway,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        assert gateway.stderr is not None
        said = b""
        async with asyncio.timeout(30):
            while b"the database is not ready" not in (line := await gateway.stderr.readline()):
                said += line
                assert line, f"it waits, and does not end: {said.decode()[:6000]}"
        await migrate(empty_database.owner)
        await until_status(client, "/readyz", 200)


async def test_it_waits_for_its_tables_serves_and_ends_when_told(
    tmp_path: Path,
    nats_server: RunningNats,
    empty_database: TestDatabase,
    read_only_object_store: ObjectStoreSettings,
) -> None:
    port = free_ports(1)[0]
    env = environment(tmp_path, port, nats_server, empty_database, read_only_object_store)
    headers = {"Authorization": f"Bearer {BOOTSTRAP_KEY}"}
    async with (
        process(env) as gateway,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False
        ) as client,
    ):
        await until_status(client, "/healthz", 200)
        await until_status(client, "/readyz", 503)
        await migrate(empty_database.owner)
        await until_status(client, "/readyz", 200)
        response = await client.get("/v1/models")

        gateway.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(gateway.wait(), 15) == 0

    spans = "".join(file.read_text() for file in (tmp_path / "traces").iterdir())
    assert response.status_code == 200
    assert "GET /v1/models" in spans
    assert response.headers["x-trace-id"] in spans


async def test_killed_it_leaves_no_process_behind(
    tmp_path: Path,
    nats_server: RunningNats,
    database: TestDatabase,
    read_only_object_store: ObjectStoreSettings,
) -> None:
    port = free_ports(1)[0]
    env = environment(tmp_path, port, nats_server, database, read_only_object_store)
    async with (
        process(env) as gateway,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        await until_status(client, "/readyz", 200)
        children = children_of(gateway.pid)
        assert len(children) == 4, "those for templates and for tokenizers"

        gateway.kill()
        await gateway.wait()

        async with asyncio.timeout(10):
            while any(is_running(child) for child in children):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.05)


async def test_a_setting_that_is_wrong_ends_the_start_and_is_named(tmp_path: Path) -> None:
    async with process({"HYDRA_GATEWAY_PORT": "many"}) as gateway:
        _, stderr = await asyncio.wait_for(gateway.communicate(), 30)

    assert gateway.returncode != 0
    assert "HYDRA_GATEWAY_PORT" in stderr.decode()
