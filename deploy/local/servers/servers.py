"""The stack's three servers with their generated credentials, and how services reach them."""

from dataclasses import dataclass
from pathlib import Path

from deploy.bootstrap.credentials import Credentials
from deploy.bootstrap.names import API_KEY_PREFIX, BUCKET, DATABASE, DATABASE_ROLES, REGION
from deploy.bootstrap.nats_config import NatsUser
from deploy.bootstrap.postgres_roles import Role
from deploy.local.servers.nats import NatsOptions, NatsServer
from deploy.local.servers.postgres import PostgresOptions, PostgresServer
from deploy.local.servers.s3 import S3Key, S3Options, S3Server
from deploy.local.services import Connections
from deploy.local.state.ports import free_ports
from deploy.local.state.state_folder import StateFolder
from libs.common.bus.subjects import Service, permissions_for
from libs.common.settings import BusSettings, DatabaseSettings, ObjectStoreSettings

_S3_SERVICES = ("admin", "gateway", "fetcher")


@dataclass(frozen=True)
class Servers:
    nats: NatsServer
    postgres: PostgresServer
    s3: S3Server
    credentials: Credentials

    @classmethod
    def describe(cls, state: StateFolder, *, s3_processes: int = 1) -> "Servers":
        """Chooses ports and generates the credentials that are missing; starts nothing."""
        credentials = Credentials(state.credentials)
        nats_port, postgres_port, s3_port = free_ports(3)
        nats = NatsOptions(
            state.path / "nats",
            state.log("nats"),
            nats_port,
            _nats_users(credentials),
        )
        postgres = PostgresOptions(
            folder=state.path / "postgres",
            log_path=state.log("postgres"),
            port=postgres_port,
            administrator_password=credentials.secret("postgres-administrator"),
            roles=_database_roles(credentials),
            database=DATABASE,
        )
        s3 = S3Options(
            state.path / "s3",
            state.log("s3"),
            s3_port,
            _s3_keys(credentials),
            BUCKET,
            num_processes=s3_processes,
        )
        return cls(NatsServer(nats), PostgresServer(postgres), S3Server(s3), credentials)

    @property
    def api_key(self) -> str:
        return self.credentials.secret("api-key", prefix=API_KEY_PREFIX)

    @property
    def connections(self) -> Connections:
        urls = {s: self.postgres.url(r, DATABASE) for s, r in DATABASE_ROLES.items()}
        return Connections(
            nats_url=self.nats.url,
            nats_password_files={_process_name(s): self._file(f"nats-{s}") for s in Service},
            database_urls=urls,
            database_password_files={
                service: self._file(f"postgres-{role}") for service, role in DATABASE_ROLES.items()
            },
            s3_endpoint=self.s3.endpoint,
            s3_bucket=BUCKET,
            s3_access_key_files={s: self._file(f"s3-{s}-access-key") for s in _S3_SERVICES},
            s3_secret_key_files={s: self._file(f"s3-{s}-secret-key") for s in _S3_SERVICES},
            api_key_file=self.credentials.path("api-key", prefix=API_KEY_PREFIX),
        )

    def bus_settings(self, service: Service) -> BusSettings:
        """What the service connects to NATS with; for tests and tools."""
        password = self.credentials.secret(f"nats-{service}")
        return BusSettings(self.nats.url, service.value, password)

    def database_settings(self, service: str) -> DatabaseSettings:
        """Of `scheduler`, whose role owns the database, or of `gateway`."""
        role = DATABASE_ROLES[service]
        password = self.credentials.secret(f"postgres-{role}")
        return DatabaseSettings(self.postgres.url(role, DATABASE), password)

    def object_store_settings(self, service: str) -> ObjectStoreSettings:
        """Of `fetcher`, or of `gateway`, whose key only reads."""
        keys = (
            self.credentials.secret(f"s3-{service}-{part}-key") for part in ("access", "secret")
        )
        return ObjectStoreSettings(self.s3.endpoint, BUCKET, REGION, *keys)

    def _file(self, name: str) -> Path:
        return self.credentials.path(name)


def _process_name(service: Service) -> str:
    """The bus calls a node's agent its worker service."""
    return "agent" if service is Service.WORKER else service.value


def _nats_users(credentials: Credentials) -> tuple[NatsUser, ...]:
    return tuple(
        NatsUser(service.value, credentials.secret(f"nats-{service}"), permissions_for(service))
        for service in Service
    )


def _database_roles(credentials: Credentials) -> tuple[Role, ...]:
    """The scheduler's role owns the database and migrates it."""
    return tuple(
        Role(name, credentials.secret(f"postgres-{name}")) for name in DATABASE_ROLES.values()
    )


def _s3_keys(credentials: Credentials) -> tuple[S3Key, ...]:
    return tuple(
        S3Key(
            credentials.secret(f"s3-{service}-access-key"),
            credentials.secret(f"s3-{service}-secret-key"),
            is_read_only=service == "gateway",
        )
        for service in _S3_SERVICES
    )
