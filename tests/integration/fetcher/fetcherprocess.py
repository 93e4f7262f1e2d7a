"""A fetcher as a process of its own, and its scheduler played by the test."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from libs.common.bus.bus import NatsBus
from libs.common.bus.messages import (
    FetcherHeartbeat,
    FetchObserved,
    FetchSpec,
    ImportModel,
    ImportProgressed,
    LayerRange,
    NodeDesired,
    WorkerSpec,
)
from libs.common.bus.subjects import (
    IMPORT_PROGRESS,
    NODE_DESIRED_FETCHER,
    NODE_FETCHER_HEARTBEAT,
    Service,
)
from libs.common.bus.workqueue import NatsWorkQueue
from libs.common.errors import BusError
from libs.common.settings import ObjectStoreSettings
from libs.common.states import FetchClass, FetchPurpose, FetchState, ImportState, MemberRole
from libs.common.weights.unitclient import SOCKET_NAME
from tests.integration.servers import RunningNats
from tests.unit.fetcher.worlds import eventually

NODE = "node-1"
PROJECT = Path(__file__).resolve().parents[3]


@dataclass
class FetcherProcess:
    folder: Path
    environment: dict[str, str]
    module: str = "services.fetcher"
    process: asyncio.subprocess.Process | None = None

    @property
    def socket_path(self) -> Path:
        return self.folder / "run" / SOCKET_NAME

    @property
    def log(self) -> str:
        return (self.folder / "fetcher.log").read_text()

    def units(self) -> dict[str, int]:
        """Inode by digest of what lies in shared memory."""
        return {path.name: path.stat().st_ino for path in (self.folder / "shm").iterdir()}

    async def start(self) -> None:
        with (self.folder / "fetcher.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self.module,
                env=self.environment,
                cwd=PROJECT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 20)


@dataclass
class Scheduler:
    """Hears what the fetcher tells and gives it a desired state."""

    bus: NatsBus
    heartbeats: list[FetcherHeartbeat] = field(default_factory=list)
    imports: list[ImportProgressed] = field(default_factory=list)
    version: int = 0

    async def listen(self) -> None:
        await self.bus.subscribe(NODE_FETCHER_HEARTBEAT, NODE, self._heard)
        await self.bus.subscribe(IMPORT_PROGRESS, None, self._progressed)

    async def _heard(self, message: FetcherHeartbeat) -> None:
        self.heartbeats.append(message)

    async def _progressed(self, message: ImportProgressed) -> None:
        self.imports.append(message)

    async def ready(self) -> None:
        """Until a fetcher that started after this call is there."""
        before = {heartbeat.boot_id for heartbeat in self.heartbeats}
        await eventually(lambda: bool({h.boot_id for h in self.heartbeats} - before))

    async def imported(self, source: Path, import_id: str = "import-1") -> ImportProgressed:
        queue = NatsWorkQueue(self.bus.client)
        await queue.ensure()
        job = ImportModel(
            model_id="model-1",
            import_id=import_id,
            source=str(source),
            tenant="default",
            is_public=True,
        )
        await queue.put(job)
        await eventually(lambda: self._end_of(import_id) is not None)
        ended = self._end_of(import_id)
        assert ended is not None
        return ended

    def _end_of(self, import_id: str) -> ImportProgressed | None:
        ended = (m for m in self.imports if m.state is not ImportState.RUNNING)
        return next((m for m in ended if m.import_id == import_id), None)

    async def want(self, *fetches: FetchSpec, workers: tuple[WorkerSpec, ...] = ()) -> None:
        self.version += 1
        desired = NodeDesired(
            node_id=NODE,
            leader_epoch=1,
            version=self.version,
            fetches=fetches,
            workers=workers,
        )
        for _ in range(50):
            try:
                await self.bus.request(NODE_DESIRED_FETCHER, NODE, desired, timeout_s=2)
                return
            except BusError:
                await asyncio.sleep(0.1)
        raise AssertionError("the fetcher does not accept a desired state")

    def fetch(self, fetch_id: str) -> FetchObserved | None:
        latest = self.heartbeats[-1].fetches if self.heartbeats else ()
        return next((f for f in latest if f.fetch_id == fetch_id), None)

    async def fetch_ended(self, fetch_id: str = "fetch-1") -> FetchObserved:
        def has_ended() -> bool:
            found = self.fetch(fetch_id)
            return found is not None and found.state in (FetchState.COMPLETE, FetchState.FAILED)

        await eventually(has_ended)
        ended = self.fetch(fetch_id)
        assert ended is not None
        return ended


def fetch_of(model: ImportProgressed, fetch_id: str = "fetch-1") -> FetchSpec:
    assert model.summary is not None and model.manifest_digest is not None
    return FetchSpec(
        fetch_id=fetch_id,
        purpose=FetchPurpose.START,
        manifest_digest=model.manifest_digest,
        unit_digests=tuple(unit.digest for unit in model.summary.units),
        fetch_class=FetchClass.INTERACTIVE,
    )


def worker_of(model: ImportProgressed) -> WorkerSpec:
    fetch = fetch_of(model)
    return WorkerSpec(
        worker_id="worker-1",
        endpoint_id="endpoint-1",
        endpoint_epoch=1,
        model_id="model-1",
        manifest_digest=fetch.manifest_digest,
        generation=1,
        role=MemberRole.ENTRY,
        stage_index=0,
        num_stages=1,
        layers=LayerRange(first_layer=0, last_layer=1),
        unit_digests=fetch.unit_digests,
        device_index=0,
        device_bytes=1,
        kv_bytes=0,
        max_slots=1,
        max_context_tokens=1,
        cores=1,
        start_timeout_ms=1000,
    )


def environment_of(
    folder: Path, nats: RunningNats, store: ObjectStoreSettings, **changes: str
) -> dict[str, str]:
    bus = nats.settings(Service.FETCHER)
    secrets = {
        "NATS_PASSWORD": bus.password,
        "S3_ACCESS_KEY": store.access_key,
        "S3_SECRET_KEY": store.secret_key,
    }
    values = {
        "NODE_ID": NODE,
        "NATS_URL": bus.url,
        "NATS_USER": bus.user,
        "S3_ENDPOINT": store.endpoint,
        "S3_BUCKET": store.bucket,
        "S3_REGION": store.region,
        "SHM_DIR": str(folder / "shm"),
        "SOCKET_DIR": str(folder / "run"),
        "SCRATCH_DIR": str(folder / "scratch"),
        "HOST_CACHE_BYTES": "1G",
        "IMPORT_ROOTS": str(folder / "models"),
        **changes,
    }
    for name, secret in secrets.items():
        (folder / name).write_text(secret)
        values[f"{name}_FILE"] = str(folder / name)
    return {"PATH": os.environ["PATH"], **{f"HYDRA_{key}": text for key, text in values.items()}}


@asynccontextmanager
async def running_fetcher(
    folder: Path, nats: RunningNats, store: ObjectStoreSettings, **changes: str
) -> AsyncIterator[tuple[FetcherProcess, Scheduler]]:
    (folder / "models").mkdir(exist_ok=True)
    bus = await NatsBus.connect(nats.settings(Service.SCHEDULER), Service.SCHEDULER, name="test")
    scheduler = Scheduler(bus)
    await scheduler.listen()
    fetcher = FetcherProcess(folder, environment_of(folder, nats, store, **changes))
    await fetcher.start()
    try:
        await scheduler.ready()
        yield fetcher, scheduler
    finally:
        if fetcher.process is not None and fetcher.process.returncode is None:
            await fetcher.end(signal.SIGKILL)
        await bus.close()
