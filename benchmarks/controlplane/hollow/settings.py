"""Settings of a process of hollow nodes: one frozen object, read once from a JSON file."""

from functools import cached_property
from pathlib import Path
from random import Random
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmarks.controlplane.catalogue import UNITS_PER_MODEL, Catalogue
from benchmarks.controlplane.hollow.fetching.initial_units import MODEL_FILE_BYTES
from libs.common.settings import BusSettings
from services.worker.agent.settings import MISSING_WORKER_S


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Duration(Settings):
    """How long something takes: evenly spread round a mean."""

    mean_s: float = Field(ge=0)
    spread: float = Field(default=0.2, ge=0, le=1)  # of the mean, to both sides

    def drawn_s(self, chance: Random) -> float:
        return self.mean_s * (1 + self.spread * (2 * chance.random() - 1))


class StartDurations(Settings):
    """Of the steps of a worker's start, each by itself; what it waits for comes on top."""

    spawn: Duration = Duration(mean_s=0.05)  # of a process that is launched
    standby: Duration = Duration(mean_s=0.005)  # until a standby has taken its work
    bind: Duration = Duration(mean_s=0.02)  # of the data socket, where there are several stages
    map_units: Duration = Duration(mean_s=0.01)  # once the units' files are there
    imports: Duration = Duration(mean_s=1.5)
    standby_imports: Duration = Duration(mean_s=0.005)
    build_engine: Duration = Duration(mean_s=0.1)
    link: Duration = Duration(mean_s=0.02)  # once a stage knows its neighbours
    notice_loss: Duration = Duration(mean_s=0.2)  # of a neighbour that has ended
    load: Duration = Duration(mean_s=0.1)  # once the weights are there
    stop: Duration = Duration(mean_s=0.02)


class TokenDurations(Settings):
    prefill: Duration = Duration(mean_s=0.1)  # from a request's turn to its first token
    step: Duration = Duration(mean_s=0.05)  # a token for each running request


class DeviceSettings(Settings):
    count: int = Field(default=8, ge=1)
    kind: Literal["cpu", "cuda"] = "cuda"
    memory_bytes: int = Field(default=80 * 2**30, gt=0)
    cores: int = Field(default=8, ge=1)


class CatalogueSettings(Settings):
    """As the benchmark registers its models: `benchmarks/controlplane/catalogue.py`."""

    num_models: int = Field(ge=1)
    num_large: int = Field(default=0, ge=0)
    num_tenants: int = Field(default=50, ge=1)


class NatsUserSettings(Settings):
    user: str
    password_file: Path


class NatsSettings(Settings):
    url: str
    fetcher: NatsUserSettings
    worker: NatsUserSettings

    def of(self, user: NatsUserSettings) -> BusSettings:
        """Raises OSError."""
        return BusSettings(self.url, user.user, user.password_file.read_text().strip())


class HollowSettings(Settings):
    nats: NatsSettings
    run_dir: Path  # of this process: its control socket, its health file
    models: CatalogueSettings
    num_nodes: int = Field(ge=1)
    first_index: int = Field(default=0, ge=0)
    name_prefix: str = Field(default="hollow", pattern=r"^[a-z][a-z0-9-]{0,30}$")
    devices: DeviceSettings = DeviceSettings()
    nic_bytes_per_s: int = Field(default=3_125_000_000, ge=0)  # 25 Gbit; 0: no limit
    first_byte: Duration = Duration(mean_s=0.01)  # of a fetch, until the store answers
    cache_bytes: int = Field(default=2 * 2**40, gt=0)
    cached_units: int = Field(default=0, ge=0)  # when it starts, of whole models: some fewer
    num_standbys: int = Field(default=0, ge=0)
    standby: Duration = Duration(mean_s=2.0)  # until one that was taken is replaced
    start: StartDurations = StartDurations()
    tokens: TokenDurations = TokenDurations()
    alive_interval_s: float = Field(default=5.0, gt=0, le=10)  # real ones say it each second
    engine_stall_s: float = Field(default=30.0, ge=15)
    missing_worker_s: float = Field(default=MISSING_WORKER_S, ge=0)
    seed: int = 0
    connecting_at_once: int = Field(default=16, ge=1)
    log_level: str = "WARNING"

    @cached_property
    def catalogue(self) -> Catalogue:
        models = self.models
        return Catalogue(models.num_models, models.num_large, models.num_tenants)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        needed_bytes = self.cached_units // UNITS_PER_MODEL * MODEL_FILE_BYTES
        if needed_bytes > self.cache_bytes:
            raise ValueError(f"cached_units take {needed_bytes} bytes, cache_bytes has not so many")
        return self

    @property
    def control_socket(self) -> Path:
        return self.run_dir / "control.sock"

    @property
    def health_file(self) -> Path:
        return self.run_dir / "health"

    def node_ids(self) -> tuple[str, ...]:
        indexes = range(self.first_index, self.first_index + self.num_nodes)
        return tuple(f"{self.name_prefix}-{index:05}" for index in indexes)

    def chance(self, node_id: str, what: str) -> Random:
        """The same for the same seed, in whichever process."""
        return Random(f"{self.seed}/{node_id}/{what}")

    @classmethod
    def read(cls, path: Path) -> "HollowSettings":
        """Raises OSError, and ValidationError, which names the field and its value."""
        return cls.model_validate_json(path.read_bytes())
