"""A whole fetcher in this process, on a store in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from libs.common.bus.messages import FetchObserved, FetchSpec, LayerRange, NodeDesired, WorkerSpec
from libs.common.clock import SystemClock
from libs.common.objectstore.objectstore import ObjectStore
from libs.common.states import FetchClass, FetchPurpose, MemberRole
from libs.common.testing.objectstore import MemoryObjectStore
from libs.common.weights.manifest import Manifest, UnitEntry, UnitKind, manifest_key
from libs.common.weights.manifest_json import encode_manifest, manifest_digest
from libs.common.weights.safetensors import TensorSpec
from libs.common.weights.unitclient import WantedUnits
from services.fetcher.desired import Desired, Signal
from services.fetcher.fetching.fetches import Fetches, FetchParts
from services.fetcher.fetching.governor import NicGovernor
from services.fetcher.fetching.manifests import Manifests
from services.fetcher.fetching.rate_meter import RateMeter
from services.fetcher.fetching.transfer import Transfer
from services.fetcher.hostcache.hostcache import HostCache
from services.fetcher.hostcache.unit_heartbeat import UnitHeartbeat
from services.fetcher.hostcache.unit_server import UnitServer, UnitSources
from services.fetcher.service import FetcherService
from tests.unit.common.weights.builders import safetensors_unit, tiny_manifest
from tests.unit.fetcher.worlds import QUICK

NODE = "node-1"
ROOM_PATIENCE_S = 0.3


@dataclass
class StoredModel:
    manifest: Manifest
    digest: str
    data: dict[str, bytes] = field(default_factory=dict)

    @property
    def units(self) -> tuple[UnitEntry, ...]:
        return self.manifest.units

    def fetch(
        self,
        fetch_id: str = "fetch-1",
        fetch_class: FetchClass = FetchClass.INTERACTIVE,
        purpose: FetchPurpose = FetchPurpose.START,
        units: slice = slice(None),
    ) -> FetchSpec:
        return FetchSpec(
            fetch_id=fetch_id,
            purpose=purpose,
            fetch_class=fetch_class,
            manifest_digest=self.digest,
            unit_digests=tuple(unit.digest for unit in self.units[units]),
        )

    @property
    def wanted(self) -> WantedUnits:
        return WantedUnits(self.digest, tuple(unit.digest for unit in self.units))

    def worker(self, worker_id: str = "worker-1") -> WorkerSpec:
        return WorkerSpec(
            worker_id=worker_id,
            endpoint_id="endpoint-1",
            endpoint_epoch=1,
            model_id="model-1",
            manifest_digest=self.digest,
            generation=1,
            role=MemberRole.ENTRY,
            stage_index=0,
            num_stages=1,
            layers=LayerRange(first_layer=0, last_layer=self.manifest.num_layers),
            unit_digests=tuple(unit.digest for unit in self.units),
            device_index=0,
            device_bytes=1,
            kv_bytes=0,
            max_slots=1,
            max_context_tokens=1,
            cores=1,
            start_timeout_ms=1000,
        )


async def stored_model(
    store: ObjectStore,
    *,
    width: int = 64,
    num_layers: int = 3,
    seed: int = 0,
    chunk_size_bytes: int = 4096,
) -> StoredModel:
    """Square units of F32, `width` on each side."""
    make = partial(safetensors_unit, chunk_size_bytes=chunk_size_bytes)
    square = [TensorSpec("w", "F32", (width, width))]
    pairs = [make(square, kind=UnitKind.EMBEDDING, seed=seed)]
    pairs += [
        make(square, kind=UnitKind.LAYER, layer_index=i, seed=seed + i + 1)
        for i in range(num_layers)
    ]
    norm = [TensorSpec("norm", "F32", (width,))]
    pairs.append(make(norm, kind=UnitKind.FINAL_NORM, seed=seed))
    for unit, data in pairs:
        await store.put_bytes(unit.key, data, digest=unit.digest)
    base = tiny_manifest()
    manifest = Manifest(**{**vars(base), "units": tuple(unit for unit, _ in pairs)})
    encoded = encode_manifest(manifest)
    digest = manifest_digest(encoded)
    await store.put_bytes(manifest_key(digest), encoded, digest=digest)
    return StoredModel(manifest, digest, {unit.digest: data for unit, data in pairs})


@dataclass
class Node:
    store: MemoryObjectStore
    socket_path: Path
    cache: HostCache
    fetches: Fetches
    service: FetcherService
    changed: Signal
    version: int = 0

    async def want(
        self, *fetches: FetchSpec, workers: tuple[WorkerSpec, ...] = (), epoch: int = 1
    ) -> None:
        self.version += 1
        message = NodeDesired(
            node_id=NODE,
            leader_epoch=epoch,
            version=self.version,
            workers=workers,
            fetches=fetches,
        )
        reply = await self.service.follow(message)
        assert reply.refused is None

    def observed(self, fetch_id: str = "fetch-1") -> FetchObserved:
        return next(f for f in self.service.heartbeat().fetches if f.fetch_id == fetch_id)


@asynccontextmanager
async def running_node(
    folder: Path, store: MemoryObjectStore, *, capacity_bytes: int = 1 << 30, rate: int = 0
) -> AsyncIterator[Node]:
    clock, changed, governor = SystemClock(), Signal(), NicGovernor(rate)
    cache = HostCache(folder / "shm", capacity_bytes)
    cache.adopt()
    desired, manifests = Desired(NODE), Manifests(store, QUICK)
    meter = RateMeter(clock.monotonic_s)
    transfer = Transfer(store, governor, meter, retry=QUICK)
    parts = FetchParts(manifests, cache, transfer, governor, clock, ROOM_PATIENCE_S)
    fetches = Fetches(parts, changed.notify)
    service = FetcherService(
        node_id=NODE,
        boot_id="boot-1",
        desired=desired,
        fetches=fetches,
        cache=cache,
        governor=governor,
        meter=meter,
        changed=changed,
    )
    socket_path = folder / "sockets" / "fetcher.sock"
    server = UnitServer(socket_path, UnitSources(desired, manifests, fetches, cache, changed))
    with UnitHeartbeat(cache.beat):
        async with server.serving():
            try:
                yield Node(store, socket_path, cache, fetches, service, changed)
            finally:
                store.release()
                await fetches.close()
