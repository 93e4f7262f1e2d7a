"""The fetcher of the project as a client: all of it but the bus, told by a desired state."""

import asyncio
import gc
import time
from pathlib import Path

from benchmarks.fetching.workload import Job, Sample
from libs.common.bus.messages import FetchSpec, NodeDesired
from libs.common.objectstore.s3store import S3ObjectStore
from libs.common.settings import BusSettings
from libs.common.states import FetchClass, FetchPurpose, FetchState
from libs.common.weights.manifest import CHUNK_SIZE_BYTES
from libs.common.weights.unitheader import header_bytes
from services.fetcher import bootstrap
from services.fetcher.hostcache.unit_heartbeat import UnitHeartbeat
from services.fetcher.settings import FetcherSettings

NODE = "node-1"
NUM_CONNECTIONS = 4
LOOK_AGAIN_S = 1.0


def fetch(job: Job) -> Sample:
    return asyncio.run(_fetch(job))


async def _fetch(job: Job) -> Sample:
    async with S3ObjectStore(job.object_store) as store:
        fetcher = bootstrap.build(_settings(job), store)
        fetcher.cache.adopt()
        with UnitHeartbeat(fetcher.cache.beat):
            gc.freeze()  # as the fetcher does at its start
            await _complete(fetcher, job.warm_up, version=1)
            warming_cpu_s = _make_pages(fetcher, job) if job.is_warm else 0.0
            started_s, started_cpu_s = time.perf_counter(), time.process_time()
            await _complete(fetcher, job, version=2)
            wall_s = time.perf_counter() - started_s
            cpu_s = time.process_time() - started_cpu_s
            await fetcher.fetches.close()
    return Sample(wall_s, cpu_s, job.size_bytes, warming_cpu_s)


def _make_pages(fetcher: bootstrap.Fetcher, job: Job) -> float:
    """As an idle node does after a model of the same architecture; the CPU time it took."""
    started_cpu_s = time.process_time()
    size_bytes = job.size_bytes // len(job.unit_digests)
    file_bytes = size_bytes + header_bytes(size_bytes, CHUNK_SIZE_BYTES)
    fetcher.cache.expect([file_bytes] * len(job.unit_digests))
    while fetcher.cache.warm_filling()():
        pass
    return time.process_time() - started_cpu_s


async def _complete(fetcher: bootstrap.Fetcher, job: Job, version: int) -> None:
    """Desire the job's units, and return when they are there."""
    spec = FetchSpec(
        fetch_id=f"fetch-{version}",
        purpose=FetchPurpose.PREFETCH,
        manifest_digest=job.manifest_digest,
        unit_digests=job.unit_digests,
        fetch_class=FetchClass.INTERACTIVE,
    )
    desired = NodeDesired(node_id=NODE, leader_epoch=1, version=version, fetches=(spec,))
    await fetcher.service.follow(desired)
    while True:
        seen_version = fetcher.changed.version
        states = {fetch.fetch_id: fetch for fetch in fetcher.fetches.observed()}
        observed = states[spec.fetch_id]
        if observed.state is FetchState.COMPLETE:
            return
        assert observed.state is not FetchState.FAILED, observed.cause
        await fetcher.changed.wait(seen_version, LOOK_AGAIN_S)


def _settings(job: Job) -> FetcherSettings:
    folder = Path(job.folder)
    return FetcherSettings(
        node_id=NODE,
        bus=BusSettings("nats://not-used", "", ""),
        object_store=job.object_store,
        scratch_dir=folder / "scratch",
        nic_bytes_per_s=job.nic_bytes_per_s,
        health_file=None,
        log_level="WARNING",
        import_roots=(),
        import_patience_s=1.0,
        convert_memory_bytes=0,
        convert_timeout_s=1.0,
        may_convert_unconfined=False,
        shm_dir=folder / "units",
        socket_dir=folder / "run",
        host_cache_bytes=4 * job.size_bytes,
        warm_bytes=2 * job.size_bytes,
        num_connections=NUM_CONNECTIONS,
        fetch_patience_s=30.0,
        room_patience_s=10.0,
        can_import=False,
    )
