"""What the bootstrap is told: where the servers are, and the folder with everybody's secrets."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from deploy.bootstrap.bucket import StoreAdministrator
from deploy.bootstrap.names import (
    BUCKET,
    DATABASE,
    DATABASE_ROLES,
    POSTGRES_ADMINISTRATOR_SECRET,
    REGION,
    STORE_ADMINISTRATOR,
    STORE_READERS,
    STORE_WRITER,
    nats_secret,
    postgres_secret,
    store_access_key,
    store_secret_key,
)
from deploy.bootstrap.nats_config import NatsConfig, NatsUser
from deploy.bootstrap.postgres_roles import ADMINISTRATOR, Role
from deploy.bootstrap.store_users import StoreUser
from libs.common.bus.subjects import Service, permissions_for
from libs.common.errors import SettingsError
from libs.common.settings import DatabaseSettings, Environment, ObjectStoreSettings


class StoreUsers(StrEnum):
    MINIO = "minio"  # made here, over MinIO's admin interface
    GIVEN = "given"  # whoever runs the store has made them


@dataclass(frozen=True)
class Secrets:
    """A folder with one file per secret. Raises SettingsError for what cannot be read."""

    folder: Path

    def read(self, name: str) -> str:
        path = self.folder / name
        try:
            secret = path.read_text().strip()
        except OSError as exc:
            raise SettingsError("HYDRA_SECRETS", str(path), f"a readable file ({exc})") from exc
        if not secret:
            raise SettingsError("HYDRA_SECRETS", str(path), "a file that is not empty")
        return secret


@dataclass(frozen=True)
class NatsSettings:
    path: Path  # of the configuration that is written
    config: NatsConfig

    @classmethod
    def read(cls, env: Environment) -> "NatsSettings":
        """Raises SettingsError."""
        secrets = Secrets(env.path("SECRETS"))
        users = tuple(
            NatsUser(service.value, secrets.read(nats_secret(service)), permissions_for(service))
            for service in Service
        )
        config = NatsConfig(
            listen=env.text("NATS_LISTEN", "0.0.0.0:4222"),
            monitor=env.text("NATS_MONITOR", "127.0.0.1:8222"),
            store_dir=env.path("NATS_STORE_DIR"),
            users=users,
        )
        return cls(env.path("NATS_CONFIG"), config)


@dataclass(frozen=True)
class ServerSettings:
    postgres_address: str  # host:port
    administrator: DatabaseSettings
    roles: tuple[Role, ...]  # the first owns the database
    store: StoreAdministrator
    store_users: tuple[StoreUser, ...]  # those to make; empty where they are given
    database: str = DATABASE
    bucket: str = BUCKET
    verify_bytes_per_s: int = 50_000_000  # for `sweep-objects --verify`; 0: no limit

    @property
    def owner(self) -> DatabaseSettings:
        role = self.roles[0]
        return DatabaseSettings(self._url(role.name, self.database), role.password)

    @property
    def object_store(self) -> ObjectStoreSettings:
        """With the administrator's key: no service may delete an object."""
        store = self.store
        return ObjectStoreSettings(
            store.endpoint, self.bucket, REGION, store.access_key, store.secret_key
        )

    def _url(self, role: str, database: str) -> str:
        return f"postgresql://{role}@{self.postgres_address}/{database}"

    @classmethod
    def read(cls, env: Environment) -> "ServerSettings":
        """Raises SettingsError."""
        secrets, address = Secrets(env.path("SECRETS")), env.text("POSTGRES_ADDRESS")
        return cls(
            postgres_address=address,
            administrator=DatabaseSettings(
                f"postgresql://{ADMINISTRATOR}@{address}/postgres",
                secrets.read(POSTGRES_ADMINISTRATOR_SECRET),
            ),
            roles=tuple(
                Role(name, secrets.read(postgres_secret(name))) for name in DATABASE_ROLES.values()
            ),
            store=StoreAdministrator(
                env.text("S3_ENDPOINT"),
                secrets.read(store_access_key(STORE_ADMINISTRATOR)),
                secrets.read(store_secret_key(STORE_ADMINISTRATOR)),
            ),
            store_users=_store_users(env, secrets),
            bucket=env.text("S3_BUCKET", BUCKET),
            verify_bytes_per_s=env.size_bytes("VERIFY_BYTES_PER_S", "50M"),
        )


def _store_users(env: Environment, secrets: Secrets) -> tuple[StoreUser, ...]:
    text = env.text("STORE_USERS", StoreUsers.MINIO)
    if text not in list(StoreUsers):
        raise SettingsError(env.prefix + "STORE_USERS", text, f"one of {', '.join(StoreUsers)}")
    if text == StoreUsers.GIVEN:
        return ()
    return tuple(
        StoreUser(
            name,
            secrets.read(store_access_key(name)),
            secrets.read(store_secret_key(name)),
            can_write=name == STORE_WRITER,
        )
        for name in (*STORE_READERS, STORE_WRITER)
    )
