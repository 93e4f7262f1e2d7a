"""Settings of the worker agent, read once from the environment (prefix HYDRA_)."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from libs.common.errors import SettingsError
from libs.common.gpu_uuid import is_gpu_uuid
from libs.common.ids import is_id
from libs.common.network.nic_rate_limiter import LIMITER_FILE_NAME
from libs.common.settings import BusSettings, Environment, parse_size_bytes
from libs.common.weights.unitclient import SOCKET_NAME
from services.worker.agent.processes.watchdog import WATCHDOG_LIMITS, WatchdogLimits
from services.worker.frames.dataplane import DataPlaneOptions, Security

MIN_ENGINE_STALL_S = 5.0
# Waiting longer costs more of a cold start than it may save: a start by itself takes a second.
BIND_TIMEOUT_S = 0.5
# In that time a scheduler has heard the node and can speak of its workers.
MISSING_WORKER_S = 10.0


class DeviceKind(StrEnum):
    CPU = "cpu"
    CUDA = "cuda"


class ComputeShares(StrEnum):
    """What a worker's share of a device's memory means for its compute."""

    WEIGHTS = "weights"  # counts where several want the same at once
    CAPS = "caps"  # is the most that it gets, also where nobody else wants any


@dataclass(frozen=True)
class DeviceSettings:
    """One entry of HYDRA_DEVICES: `cpu:<size>:<cores>` or `cuda:<gpu>[:<size>[:<cores>]]`."""

    index: int  # how the scheduler names it: the position in the list
    kind: DeviceKind
    gpu: str | None  # a UUID, or a number as CUDA counts for the agent; None on CPU
    memory_bytes: int | None  # None: all that the GPU has
    cores: int | None  # None: an equal share of the machine


@dataclass(frozen=True)
class AgentSettings:
    node_id: str
    bus: BusSettings
    devices: tuple[DeviceSettings, ...]
    socket_dir: Path  # where the node's fetcher listens
    run_dir: Path  # this agent's own files: logs of worker processes
    health_file: Path
    log_level: str
    security: Security  # HYDRA_DATA_PLANE, the same on all nodes
    advertise_host: str  # where other nodes' stages reach this node's
    engine_stall_s: float  # how long a ready worker's engine may stand still
    standby_runtimes: int  # processes that wait ready-made for a worker to be launched; 0: none
    missing_worker_s: float  # a worker that nothing is said of is stopped after that
    standby_bind_timeout_s: float  # without its answer a process is launched instead
    compute_shares: ComputeShares = ComputeShares.WEIGHTS

    @property
    def fetcher_socket(self) -> Path:
        return self.socket_dir / SOCKET_NAME

    @property
    def data_plane(self) -> DataPlaneOptions:
        limiter = self.socket_dir / LIMITER_FILE_NAME
        return DataPlaneOptions(self.security, self.advertise_host, str(limiter))

    @property
    def watchdog_limits(self) -> WatchdogLimits:
        return WatchdogLimits(engine_s=self.engine_stall_s)

    @classmethod
    def read(cls, env: Environment) -> "AgentSettings":
        """Raises SettingsError, which names the key and the value."""
        run_dir = env.path("RUN_DIR")
        return cls(
            node_id=_node_id(env),
            bus=BusSettings.read(env),
            devices=_devices(env),
            socket_dir=env.path("SOCKET_DIR"),
            run_dir=run_dir,
            health_file=env.path("HEALTH_FILE", str(run_dir / "agent.health")),
            log_level=env.text("LOG_LEVEL", "INFO"),
            security=_security(env),
            advertise_host=env.text("ADVERTISE_HOST", "127.0.0.1"),
            engine_stall_s=_engine_stall_s(env),
            standby_runtimes=env.integer("STANDBY_RUNTIMES", 0),
            missing_worker_s=env.seconds("MISSING_WORKER_S", MISSING_WORKER_S),
            standby_bind_timeout_s=env.seconds("STANDBY_BIND_TIMEOUT_S", BIND_TIMEOUT_S),
            compute_shares=_compute_shares(env),
        )


def _node_id(env: Environment) -> str:
    node_id = env.text("NODE_ID")
    if not is_id(node_id):
        raise SettingsError(env.prefix + "NODE_ID", node_id, "an id: lower case, digits, - and _")
    return node_id


def _engine_stall_s(env: Environment) -> float:
    stall_s = env.seconds("ENGINE_PATIENCE_S", WATCHDOG_LIMITS.engine_s)
    if stall_s < MIN_ENGINE_STALL_S:
        expected = f"at least {MIN_ENGINE_STALL_S:g}: an idle engine notes progress each second"
        raise SettingsError(env.prefix + "ENGINE_PATIENCE_S", f"{stall_s:g}", expected)
    return stall_s


def _security(env: Environment) -> Security:
    text = env.text("DATA_PLANE", Security.CURVE)
    try:
        return Security(text)
    except ValueError as exc:
        expected = f"one of {', '.join(Security)}"
        raise SettingsError(env.prefix + "DATA_PLANE", text, expected) from exc


def _compute_shares(env: Environment) -> ComputeShares:
    text = env.text("COMPUTE_SHARES", ComputeShares.WEIGHTS)
    try:
        return ComputeShares(text)
    except ValueError as exc:
        expected = f"one of {', '.join(ComputeShares)}"
        raise SettingsError(env.prefix + "COMPUTE_SHARES", text, expected) from exc


def _devices(env: Environment) -> tuple[DeviceSettings, ...]:
    text = env.text("DEVICES")
    try:
        return tuple(parse_device(i, part.strip()) for i, part in enumerate(text.split(",")))
    except ValueError as exc:
        form = "cpu:<size>:<cores> or cuda:<number, GPU-… or MIG-…>[:<size>[:<cores>]]"
        expected = f"{form}, with commas ({exc})"
        raise SettingsError(env.prefix + "DEVICES", text, expected) from exc


def parse_device(index: int, text: str) -> DeviceSettings:
    """Raises ValueError."""
    kind, *parts = text.split(":")
    match (kind, parts):
        case ("cpu", [size, cores]):
            return DeviceSettings(index, DeviceKind.CPU, None, _size(size), _positive(cores))
        case ("cuda", [gpu, *rest]) if len(rest) <= 2 and (gpu.isdecimal() or is_gpu_uuid(gpu)):
            size_bytes = _size(rest[0]) if rest else None
            cores_owned = _positive(rest[1]) if len(rest) == 2 else None
            return DeviceSettings(index, DeviceKind.CUDA, gpu, size_bytes, cores_owned)
    raise ValueError(f"not a device: {text!r}")


def _size(text: str) -> int:
    size_bytes = parse_size_bytes(text)
    if size_bytes < 1:
        raise ValueError(f"no memory: {text!r}")
    return size_bytes


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"not a number of cores: {text!r}")
    return int(text)
