"""What a fetcher is told at its start."""

from dataclasses import dataclass
from pathlib import Path

from libs.common.errors import SettingsError
from libs.common.ids import is_id
from libs.common.settings import BusSettings, Environment, ObjectStoreSettings
from libs.common.weights.unitclient import SOCKET_NAME


@dataclass(frozen=True)
class ImporterSettings:
    """Of any process that imports models, a node's fetcher or one that does nothing else."""

    node_id: str
    bus: BusSettings
    object_store: ObjectStoreSettings  # reads weights; a read-only key is enough without imports
    scratch_dir: Path  # on disk, for imports
    nic_bytes_per_s: int  # 0: no limit
    health_file: Path | None  # touched each second while this process is in order
    log_level: str
    import_roots: tuple[Path, ...]  # models may be registered from beneath these folders only
    import_patience_s: float  # how long an import waits for the store to come back
    convert_memory_bytes: int
    convert_timeout_s: float
    may_convert_unconfined: bool  # where the kernel has no Landlock

    @classmethod
    def read(cls, env: Environment) -> "ImporterSettings":
        """Raises SettingsError naming the key."""
        node_id = env.text("NODE_ID")
        if not is_id(node_id):
            raise SettingsError(env.prefix + "NODE_ID", node_id, "lower-case letters, digits, - _")
        health_file = env.optional_text("HEALTH_FILE")
        return ImporterSettings(
            node_id=node_id,
            bus=BusSettings.read(env),
            object_store=ObjectStoreSettings.read(env),
            scratch_dir=env.path("SCRATCH_DIR"),
            nic_bytes_per_s=env.size_bytes("NIC_BYTES_PER_S", "0"),
            health_file=Path(health_file) if health_file else None,
            log_level=env.text("LOG_LEVEL", "INFO"),
            import_roots=env.paths("IMPORT_ROOTS"),
            import_patience_s=env.seconds("IMPORT_PATIENCE_S", 600),
            convert_memory_bytes=env.size_bytes("CONVERT_MEMORY_BYTES", "16Gi"),
            convert_timeout_s=env.seconds("CONVERT_TIMEOUT_S", 1800),
            may_convert_unconfined=env.integer("CONVERT_UNCONFINED", 0) > 0,
        )


@dataclass(frozen=True)
class FetcherSettings(ImporterSettings):
    shm_dir: Path  # this fetcher's alone, in memory: /dev/shm/…
    socket_dir: Path  # shared with this node's workers
    host_cache_bytes: int
    warm_bytes: int  # of it kept ready for the next fetch while the node is idle
    num_connections: int  # per fetch
    fetch_patience_s: float  # without a byte from the store, then a fetch fails
    room_patience_s: float  # how long a fetch waits for leases to end
    can_import: bool

    @property
    def socket_path(self) -> Path:
        return self.socket_dir / SOCKET_NAME

    @classmethod
    def read(cls, env: Environment) -> "FetcherSettings":
        """Raises SettingsError naming the key."""
        host_cache_bytes = env.size_bytes("HOST_CACHE_BYTES")
        return cls(
            **vars(ImporterSettings.read(env)),
            shm_dir=env.path("SHM_DIR"),
            socket_dir=env.path("SOCKET_DIR"),
            host_cache_bytes=host_cache_bytes,
            warm_bytes=env.size_bytes("WARM_BYTES", str(host_cache_bytes // 8)),
            num_connections=env.integer("FETCH_CONNECTIONS", 4, minimum=1),
            fetch_patience_s=env.seconds("FETCH_PATIENCE_S", 30),
            room_patience_s=env.seconds("ROOM_PATIENCE_S", 10),
            can_import=env.integer("CAN_IMPORT", 1) > 0,
        )
