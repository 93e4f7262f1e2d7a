"""The three embedded servers let in whom they should, for what they should, and nobody else."""

import asyncio
import io
from pathlib import Path
from random import Random

import asyncpg
import nats
import nats.errors
import pytest
from minio import Minio
from minio.error import S3Error
from nats.aio.client import Client

from deploy.bootstrap.names import REGION
from deploy.local.processes.procfs import is_running
from deploy.local.processes.worker_processes import descendants
from deploy.local.servers.s3 import S3Options, S3Server
from deploy.local.state.ports import free_ports
from libs.common.bus.subjects import IMPORT_REQUESTED, Service
from libs.common.objectstore.s3store import S3ObjectStore
from libs.common.settings import DatabaseSettings, ObjectStoreSettings
from tests.integration.servers import WRITER, RunningNats, TestDatabase
from tests.support.waiting import eventually


async def connect_database(settings: DatabaseSettings) -> "asyncpg.Connection[asyncpg.Record]":
    return await asyncpg.connect(settings.url, password=settings.password, timeout=5)


def s3_client(settings: ObjectStoreSettings) -> Minio:
    return Minio(
        settings.endpoint.removeprefix("http://"),
        access_key=settings.access_key,
        secret_key=settings.secret_key,
        secure=False,
        region=settings.region,
    )


async def test_nats_serves_a_jetstream_to_a_service_user(nats_server: RunningNats) -> None:
    settings = nats_server.settings(Service.SCHEDULER)
    async with await nats.connect(
        settings.url,
        user=settings.user,
        password=settings.password,
        inbox_prefix=b"_INBOX_scheduler",
    ) as client:
        account = await client.jetstream().account_info()

    assert account.streams == 0


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("gateway", "wrong"),
        ("nobody", "wrong"),
        (None, None),  # a stranger
    ],
)
async def test_nats_refuses_wrong_credentials(
    nats_server: RunningNats, user: str | None, password: str | None
) -> None:
    client = Client()
    try:
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            await client.connect(
                nats_server.url, user=user, password=password, allow_reconnect=False
            )
    finally:
        await client.close()  # a refused client keeps its socket otherwise


async def test_nats_keeps_its_stream_over_a_kill(nats_server: RunningNats) -> None:
    settings = nats_server.settings(Service.SCHEDULER)
    options = {"user": settings.user, "password": settings.password}
    inbox = b"_INBOX_scheduler"
    async with await nats.connect(settings.url, inbox_prefix=inbox, **options) as client:
        subject = IMPORT_REQUESTED.of("import-1")
        await client.jetstream().add_stream(name="IMPORTS", subjects=[subject])
        await client.jetstream().publish(subject, b"kept")

    await nats_server.kill()
    await nats_server.start()

    async with await nats.connect(settings.url, inbox_prefix=inbox, **options) as client:
        stream = await client.jetstream().stream_info("IMPORTS")
    assert stream.state.messages == 1


async def test_each_test_gets_a_migrated_database(database: TestDatabase) -> None:
    connection = await connect_database(database.owner)
    try:
        tables = await connection.fetchval(
            "SELECT count(*) FROM pg_tables WHERE schemaname='public'"
        )
    finally:
        await connection.close()

    assert tables > 5


async def test_postgres_refuses_a_wrong_password(empty_database: TestDatabase) -> None:
    wrong = DatabaseSettings(empty_database.owner.url, "wrong")

    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect_database(wrong)


async def test_the_gateway_role_cannot_change_the_schema(empty_database: TestDatabase) -> None:
    connection = await connect_database(empty_database.gateway)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE TABLE stranger (id int)")
    finally:
        await connection.close()


def test_s3_refuses_a_wrong_secret(object_store: ObjectStoreSettings) -> None:
    wrong = ObjectStoreSettings(
        object_store.endpoint,
        object_store.bucket,
        object_store.region,
        object_store.access_key,
        "wrong",
    )

    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        s3_client(wrong).list_buckets()


def test_a_read_only_key_reads_but_does_not_write(
    object_store: ObjectStoreSettings, read_only_object_store: ObjectStoreSettings
) -> None:
    s3_client(object_store).put_object(object_store.bucket, "unit", io.BytesIO(b"weights"), 7)
    reader = s3_client(read_only_object_store)

    response = reader.get_object(object_store.bucket, "unit")
    try:
        assert response.read() == b"weights"
    finally:
        response.close()
    with pytest.raises(S3Error, match="AccessDenied"):
        reader.put_object(object_store.bucket, "unit", io.BytesIO(b"changed"), 7)
    with pytest.raises(S3Error, match="AccessDenied"):
        reader.remove_object(object_store.bucket, "unit")


async def test_processes_of_one_s3_server_have_the_same_objects_and_end_together(
    tmp_path: Path,
) -> None:
    (port,) = free_ports(1)
    server = S3Server(
        S3Options(tmp_path / "s3", tmp_path / "log", port, (WRITER,), "units", num_processes=3)
    )
    child = await server.start()
    try:
        processes = descendants([child.pid])
        assert len(processes) >= 3
        settings = ObjectStoreSettings(
            server.endpoint, "units", REGION, WRITER.access_key, WRITER.secret_key
        )
        # Two parts each, four at a time: parts of one object come over several connections.
        contents = {f"unit-{i}": Random(i).randbytes(20 * 2**20) for i in range(4)}
        async with S3ObjectStore(settings) as store, asyncio.TaskGroup() as group:
            for key, content in contents.items():
                group.create_task(store.put_bytes(key, content, digest=key))
        for key, content in contents.items():
            async with S3ObjectStore(settings) as store:  # a connection of its own
                assert await store.get(key, max_bytes=len(content)) == content
    finally:
        await child.stop()
    await eventually(lambda: not any(is_running(pid) for pid in processes), what="their end")
