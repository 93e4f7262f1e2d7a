"""What is fetched: a random model in an S3 server; jobs and samples as processes exchange them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from deploy.bootstrap.names import REGION
from deploy.local.servers.s3 import S3Key, S3Options, S3Server
from deploy.local.state.ports import free_ports
from libs.common.objectstore.s3store import S3ObjectStore
from libs.common.settings import ObjectStoreSettings
from libs.common.weights.manifest import CHUNK_SIZE_BYTES, UnitEntry
from tests.unit.fetcher.nodes import stored_model

WIDTH, NUM_LAYERS = 2896, 31  # units of 33.5 MB, as the layers of a model of a billion parameters
BUCKET = "weights"
KEY = S3Key("bench", "bench-secret-key")


@dataclass(frozen=True)
class Job:
    """One fetch by one client, in a process of its own."""

    client: str
    endpoint: str
    bucket: str
    region: str
    access_key: str
    secret_key: str
    manifest_digest: str
    unit_digests: tuple[str, ...]
    size_bytes: int
    nic_bytes_per_s: int  # 0: no limit
    is_warm: bool  # the node was idle before and has made pages; the fetcher's alone can
    folder: str  # in memory, empty
    warm_up_digest: str  # a small unit, fetched before the clock runs
    warm_up_bytes: int

    @property
    def warm_up(self) -> "Job":
        digests = (self.warm_up_digest,)
        return replace(self, unit_digests=digests, size_bytes=self.warm_up_bytes)

    @property
    def object_store(self) -> ObjectStoreSettings:
        return ObjectStoreSettings(
            self.endpoint, self.bucket, self.region, self.access_key, self.secret_key
        )


@dataclass(frozen=True)
class Sample:
    wall_s: float
    cpu_s: float  # of the whole process, user and system
    num_bytes: int
    warming_cpu_s: float = 0.0  # before, while the node was idle


@dataclass(frozen=True)
class StoredWeights:
    settings: ObjectStoreSettings
    manifest_digest: str
    units: tuple[UnitEntry, ...]  # all of one size
    small_unit: UnitEntry

    def job(
        self, client: str, num_units: int, nic_bytes_per_s: int, folder: Path, *, is_warm: bool
    ) -> Job:
        units = self.units[:num_units]
        return Job(
            client=client,
            **asdict(self.settings),
            manifest_digest=self.manifest_digest,
            unit_digests=tuple(unit.digest for unit in units),
            size_bytes=sum(unit.size_bytes for unit in units),
            nic_bytes_per_s=nic_bytes_per_s,
            is_warm=is_warm,
            folder=str(folder),
            warm_up_digest=self.small_unit.digest,
            warm_up_bytes=self.small_unit.size_bytes,
        )


@asynccontextmanager
async def stored_weights(folder: Path) -> AsyncIterator[StoredWeights]:
    """The model in a running server, whose files lie in `folder`."""
    options = S3Options(folder / "s3", folder / "s3.log", free_ports(1)[0], (KEY,), BUCKET)
    server = S3Server(options)
    child = await server.start()
    try:
        settings = ObjectStoreSettings(
            server.endpoint, BUCKET, REGION, KEY.access_key, KEY.secret_key
        )
        async with S3ObjectStore(settings) as store:
            model = await stored_model(
                store, width=WIDTH, num_layers=NUM_LAYERS, chunk_size_bytes=CHUNK_SIZE_BYTES
            )
        *units, norm = model.units
        yield StoredWeights(settings, model.digest, tuple(units), norm)
    finally:
        await child.stop()
