"""The two kinds of node that are compared: real processes, and a hollow one in this process."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from benchmarks.controlplane.hollow.journal import Journal
from benchmarks.controlplane.hollow.node import HollowNode, NodeParts
from benchmarks.controlplane.hollow.settings import (
    CatalogueSettings,
    DeviceSettings,
    Duration,
    HollowSettings,
    NatsSettings,
    NatsUserSettings,
    TokenDurations,
)
from benchmarks.controlplane.hollow.workers.data_plane import DataPlane
from libs.common.bus.bus import NatsBus
from libs.common.bus.subjects import Service
from libs.common.objectstore.s3store import S3ObjectStore
from libs.common.settings import ObjectStoreSettings
from libs.common.weights.manifest import manifest_key
from services.fetcher.fetching.manifests import Manifests
from services.fetcher.fetching.transfer import RetryPolicy
from tests.integration.hollow.cluster import NODE
from tests.integration.servers import RunningNats
from tests.integration.worker.tiny import TinyModel

DEVICE_BYTES = 256 * 2**20
CACHE_BYTES = 10**9
NIC_BYTES_PER_S = 10**8
MISSING_WORKER_S = 5.0


class Node(Protocol):
    async def restart_agent(self) -> None:
        """As after kill -9."""

    async def restart_fetcher(self) -> None: ...

    async def kill_worker(self, worker_id: str, pid: int) -> None:
        """By SIGKILL."""


async def store_model(model: TinyModel, store: ObjectStoreSettings) -> None:
    """As an import leaves it."""
    async with S3ObjectStore(store) as objects:
        for unit in model.units:
            await objects.put_bytes(unit.entry.key, unit.data, digest=unit.entry.digest)
        digest = model.manifest_digest
        await objects.put_bytes(manifest_key(digest), model.manifest_bytes, digest=digest)


class RealNode:
    """`python -m services.worker` and `python -m services.fetcher`."""

    def __init__(self, folder: Path, nats: RunningNats, store: ObjectStoreSettings) -> None:
        self._folder = folder
        self._environments = {
            "services.worker": _environment(folder, nats, Service.WORKER, _agent(folder)),
            "services.fetcher": _environment(
                folder, nats, Service.FETCHER, _fetcher(folder, store)
            ),
        }
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def start(self) -> None:
        for module in self._environments:
            await self._start(module)

    async def stop(self) -> None:
        for module in self._environments:
            await self._kill(module)

    async def restart_agent(self) -> None:
        await self._kill("services.worker")
        await self._start("services.worker")

    async def restart_fetcher(self) -> None:
        await self._kill("services.fetcher")
        await self._start("services.fetcher")

    async def kill_worker(self, worker_id: str, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    async def _start(self, module: str) -> None:
        with (self._folder / f"{module}.log").open("ab") as log:
            self._processes[module] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", module),
                env=self._environments[module],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def _kill(self, module: str) -> None:
        process = self._processes[module]
        if process.returncode is None:
            process.kill()
        await process.wait()


def _environment(
    folder: Path, nats: RunningNats, service: Service, values: dict[str, str]
) -> dict[str, str]:
    bus = nats.settings(service)
    password = folder / f"{service}-password"
    password.write_text(bus.password)
    common = {
        "NODE_ID": NODE,
        "NATS_URL": bus.url,
        "NATS_USER": bus.user,
        "NATS_PASSWORD_FILE": str(password),
        "SOCKET_DIR": str(folder / "sockets"),
    }
    named = {f"HYDRA_{key}": value for key, value in {**common, **values}.items()}
    return {"PATH": os.environ["PATH"], **named}


def _agent(folder: Path) -> dict[str, str]:
    return {
        "DEVICES": f"cpu:{DEVICE_BYTES}:1",
        "RUN_DIR": str(folder / "run"),
        "MISSING_WORKER_S": str(MISSING_WORKER_S),
    }


def _fetcher(folder: Path, store: ObjectStoreSettings) -> dict[str, str]:
    for name, secret in (("access", store.access_key), ("secret", store.secret_key)):
        (folder / name).write_text(secret)
    return {
        "S3_ENDPOINT": store.endpoint,
        "S3_BUCKET": store.bucket,
        "S3_REGION": store.region,
        "S3_ACCESS_KEY_FILE": str(folder / "access"),
        "S3_SECRET_KEY_FILE": str(folder / "secret"),
        "SHM_DIR": str(folder / "shm"),
        "SCRATCH_DIR": str(folder / "scratch"),
        "HOST_CACHE_BYTES": str(CACHE_BYTES),
        "NIC_BYTES_PER_S": str(NIC_BYTES_PER_S),
        "IMPORT_ROOTS": str(folder / "models"),
        "CAN_IMPORT": "0",
    }


@asynccontextmanager
async def real_node(
    folder: Path, nats: RunningNats, store: ObjectStoreSettings
) -> AsyncIterator[Node]:
    node = RealNode(folder, nats, store)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


class HollowNodeHere:
    def __init__(self, node: HollowNode) -> None:
        self._node = node

    async def restart_agent(self) -> None:
        await self._node.restart_agent()

    async def restart_fetcher(self) -> None:
        await self._node.restart_fetcher()

    async def kill_worker(self, worker_id: str, pid: int) -> None:
        assert self._node.launcher.kill(worker_id)


@asynccontextmanager
async def hollow_node(
    folder: Path, nats: RunningNats, store: ObjectStoreSettings
) -> AsyncIterator[Node]:
    settings = _hollow_settings(folder)
    agent_bus = await NatsBus.connect(nats.settings(Service.WORKER), Service.WORKER, name="agent")
    fetcher_bus = await NatsBus.connect(
        nats.settings(Service.FETCHER), Service.FETCHER, name="fetcher"
    )
    async with S3ObjectStore(store) as objects:
        manifests = Manifests(objects, RetryPolicy())  # so that it knows the real model too
        plane = await DataPlane.open()
        parts = NodeParts(settings, manifests, no_unit, Journal(), plane, agent_bus, fetcher_bus)
        node = HollowNode(NODE, parts)
        await node.start()
        try:
            yield HollowNodeHere(node)
        finally:
            await node.stop()
            plane.close()
            await agent_bus.close()
            await fetcher_bus.close()


def no_unit(digest: str) -> None:
    """Of the catalogue: none of the tiny model's is."""


def _hollow_settings(folder: Path) -> HollowSettings:
    unused = NatsUserSettings(user="", password_file=folder)
    return HollowSettings(
        nats=NatsSettings(url="", fetcher=unused, worker=unused),
        run_dir=folder,
        models=CatalogueSettings(num_models=1),
        num_nodes=1,
        devices=DeviceSettings(count=1, kind="cpu", memory_bytes=DEVICE_BYTES, cores=1),
        nic_bytes_per_s=NIC_BYTES_PER_S,
        cache_bytes=CACHE_BYTES,
        missing_worker_s=MISSING_WORKER_S,
        tokens=TokenDurations(step=Duration(mean_s=0.002)),
    )
