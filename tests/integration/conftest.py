"""Real NATS, Postgres and S3 for integration tests, on free ports, in temporary folders.

`nats_server`     RunningNats, the test's own: `.settings(Service.X)`, `.kill()`, `.start()`
`database`        TestDatabase, migrated, the test's own: `.owner`, `.gateway` (DatabaseSettings)
`empty_database`  the same without the migrations
`object_store`    ObjectStoreSettings of a key that may write, with the test's own bucket
`read_only_object_store`  the same bucket with a key that may only read
"""

import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from libs.common.settings import ObjectStoreSettings
from tests.integration.servers import (
    READER,
    RunningNats,
    RunningPostgres,
    RunningS3,
    TestDatabase,
)


@pytest_asyncio.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[RunningNats]:
    server = RunningNats(tmp_path / "nats-server")
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[RunningPostgres]:
    folder = tmp_path_factory.mktemp("postgres-server")
    server = RunningPostgres(folder / "postgres")
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        shutil.rmtree(folder)


@pytest_asyncio.fixture
async def database(postgres_server: RunningPostgres) -> AsyncIterator[TestDatabase]:
    name = f"test_{secrets.token_hex(6)}"
    yield await postgres_server.create_database(name, is_migrated=True)
    await postgres_server.drop_database(name)


@pytest_asyncio.fixture
async def empty_database(postgres_server: RunningPostgres) -> AsyncIterator[TestDatabase]:
    name = f"test_{secrets.token_hex(6)}"
    yield await postgres_server.create_database(name, is_migrated=False)
    await postgres_server.drop_database(name)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def s3_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningS3]:
    folder = tmp_path_factory.mktemp("s3-server")
    server = RunningS3(folder / "s3")
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def bucket(s3_server: RunningS3) -> str:
    """A fresh bucket's name."""
    name = f"test-{secrets.token_hex(6)}"
    s3_server.server.make_bucket(name)
    return name


@pytest.fixture
def object_store(s3_server: RunningS3, bucket: str) -> ObjectStoreSettings:
    return s3_server.settings(bucket)


@pytest.fixture
def read_only_object_store(s3_server: RunningS3, bucket: str) -> ObjectStoreSettings:
    return s3_server.settings(bucket, READER)
