"""Real servers for integration tests, started by the embedded stack's own launchers."""

import secrets
import signal
from dataclasses import dataclass
from pathlib import Path

from deploy.bootstrap.names import REGION
from deploy.bootstrap.nats_config import NatsUser
from deploy.bootstrap.postgres_roles import Role, create_database, drop_database
from deploy.local.processes.process import ChildProcess
from deploy.local.servers.nats import NatsOptions, NatsServer
from deploy.local.servers.postgres import PostgresOptions, PostgresServer
from deploy.local.servers.s3 import S3Key, S3Options, S3Server
from deploy.local.state.ports import free_ports
from libs.common.bus.subjects import Service, permissions_for
from libs.common.records.migrate import migrate
from libs.common.settings import BusSettings, DatabaseSettings, ObjectStoreSettings

OWNER = Role("hydra", "owner-password")
GATEWAY = Role("hydra_gateway", "gateway-password")
WRITER = S3Key("writer", "writer-secret-key")
READER = S3Key("reader", "reader-secret-key", is_read_only=True)


class RunningNats:
    """A server of the test's own, with every service's user; it may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        (port,) = free_ports(1)
        self._passwords = {service: secrets.token_hex(8) for service in Service}
        users = tuple(
            NatsUser(service.value, password, permissions_for(service))
            for service, password in self._passwords.items()
        )
        self._server = NatsServer(NatsOptions(folder, folder / "nats.log", port, users))
        self._child: ChildProcess | None = None

    @property
    def url(self) -> str:
        return self._server.url

    def settings(self, service: Service) -> BusSettings:
        return BusSettings(self.url, service.value, self._passwords[service])

    async def start(self) -> None:
        self._child = await self._server.start()

    async def kill(self) -> None:
        assert self._child is not None, "not started"
        self._child.send_signal(signal.SIGKILL)
        await self._child.wait()

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.stop()


@dataclass(frozen=True)
class TestDatabase:
    """One database; `owner` may do everything in it, `gateway` what the migrations grant."""

    __test__ = False

    owner: DatabaseSettings
    gateway: DatabaseSettings


class RunningPostgres:
    """One server for the session, with a migrated template that every test's database copies."""

    def __init__(self, folder: Path) -> None:
        options = PostgresOptions(
            folder=folder,
            log_path=folder.with_suffix(".log"),
            port=free_ports(1)[0],
            administrator_password=secrets.token_hex(8),
            roles=(OWNER, GATEWAY),
            database="migrated",
            is_durable=False,
        )
        self.server = PostgresServer(options)
        self._child: ChildProcess | None = None

    async def start(self) -> None:
        self._child = await self.server.start()
        await migrate(self.settings("migrated").owner)

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.stop()

    def settings(self, database: str) -> TestDatabase:
        return TestDatabase(
            owner=DatabaseSettings(self.server.url(OWNER.name, database), OWNER.password),
            gateway=DatabaseSettings(self.server.url(GATEWAY.name, database), GATEWAY.password),
        )

    async def create_database(self, name: str, *, is_migrated: bool) -> TestDatabase:
        connection = await self.server.connect()
        try:
            template = "migrated" if is_migrated else "template1"
            await create_database(connection, name, (OWNER, GATEWAY), template=template)
        finally:
            await connection.close()
        return self.settings(name)

    async def drop_database(self, name: str) -> None:
        connection = await self.server.connect()
        try:
            await drop_database(connection, name)
        finally:
            await connection.close()


class RunningS3:
    """One server for the session; each test has a bucket of its own."""

    def __init__(self, folder: Path) -> None:
        keys = (WRITER, READER)
        log_path = folder.with_suffix(".log")
        self.server = S3Server(S3Options(folder, log_path, free_ports(1)[0], keys, "probe"))
        self._child: ChildProcess | None = None

    async def start(self) -> None:
        self._child = await self.server.start()

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.stop()

    async def kill(self) -> None:
        if self._child is not None:
            self._child.send_signal(signal.SIGKILL)
            await self._child.wait()

    def settings(self, bucket: str, key: S3Key = WRITER) -> ObjectStoreSettings:
        endpoint = self.server.endpoint
        return ObjectStoreSettings(endpoint, bucket, REGION, key.access_key, key.secret_key)
