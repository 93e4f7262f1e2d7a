"""Builds a fetcher from its settings and runs it until it is told to stop."""

import asyncio
import gc
import logging
import resource
import signal
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from libs.common.bus.bus import NatsBus
from libs.common.bus.subjects import Service
from libs.common.bus.workqueue import NatsWorkQueue
from libs.common.cancellation import cancel_all
from libs.common.clock import SystemClock
from libs.common.ids import new_id
from libs.common.network.nic_rate_limiter import LIMITER_FILE_NAME, NicRateLimiter
from libs.common.objectstore.objectstore import ObjectStore
from libs.common.objectstore.s3ranges import S3RangeSource
from libs.common.objectstore.s3store import S3ObjectStore
from libs.common.observability import telemetry
from libs.common.weights.store_order import require_store_order
from services.fetcher.desired import Desired, Signal
from services.fetcher.fetching.fetches import Fetches, FetchParts
from services.fetcher.fetching.governor import NicGovernor
from services.fetcher.fetching.manifests import Manifests
from services.fetcher.fetching.rate_meter import RateMeter
from services.fetcher.fetching.transfer import RetryPolicy, Transfer
from services.fetcher.heartbeat import send_heartbeats, touch_health_file
from services.fetcher.hostcache.eviction import RefetchCost
from services.fetcher.hostcache.hostcache import HostCache
from services.fetcher.hostcache.page_warming import keep_warm
from services.fetcher.hostcache.unit_heartbeat import UnitHeartbeat
from services.fetcher.hostcache.unit_server import UnitServer, UnitSources
from services.fetcher.imports import gguf_conversion as conversion
from services.fetcher.imports.gguf_conversion import ConversionLimits
from services.fetcher.imports.import_queue import ImportWorker
from services.fetcher.imports.importer import Importer, ImportSettings
from services.fetcher.imports.upload import Uploader
from services.fetcher.service import FetcherService
from services.fetcher.settings import FetcherSettings, ImporterSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetcher:
    """The wired parts that run."""

    service: FetcherService
    unit_server: UnitServer
    fetches: Fetches
    cache: HostCache
    importer: Importer
    changed: Signal


def configure(settings: ImporterSettings) -> None:
    """What is process-wide: logging, tracing, descriptors (one per unit that is being fetched)."""
    telemetry.configure_logging(f"fetcher {settings.node_id}", settings.log_level)
    telemetry.configure_tracing("fetcher", settings.node_id)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def build(settings: FetcherSettings, store: ObjectStore) -> Fetcher:
    clock, changed, meter = SystemClock(), Signal(), RateMeter(time.monotonic)
    governor = NicGovernor(settings.nic_bytes_per_s, bucket=_shared_bucket(settings))
    retry = RetryPolicy(patience_s=settings.fetch_patience_s)
    cost = RefetchCost.of_card(settings.nic_bytes_per_s)
    cache = HostCache(
        settings.shm_dir,
        settings.host_cache_bytes,
        refetch_cost=cost,
        max_warm_bytes=settings.warm_bytes,
    )
    desired, manifests = Desired(settings.node_id), Manifests(store, retry)
    transfer = Transfer(
        S3RangeSource(settings.object_store),
        governor,
        meter,
        num_connections=settings.num_connections,
        retry=retry,
    )
    parts = FetchParts(manifests, cache, transfer, governor, clock, settings.room_patience_s)
    fetches = Fetches(parts, on_change=changed.notify)
    service = FetcherService(
        node_id=settings.node_id,
        boot_id=new_id("boot"),
        desired=desired,
        fetches=fetches,
        cache=cache,
        governor=governor,
        meter=meter,
        changed=changed,
    )
    return Fetcher(
        service=service,
        unit_server=UnitServer(
            settings.socket_path, UnitSources(desired, manifests, fetches, cache, changed)
        ),
        fetches=fetches,
        cache=cache,
        importer=_importer(settings, store, governor),
        changed=changed,
    )


def _shared_bucket(settings: FetcherSettings) -> NicRateLimiter:
    """The node's workers find it beside the socket."""
    settings.socket_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return NicRateLimiter.create(settings.socket_dir / LIMITER_FILE_NAME, settings.nic_bytes_per_s)


def _importer(settings: ImporterSettings, store: ObjectStore, governor: NicGovernor) -> Importer:
    retry = RetryPolicy(patience_s=settings.import_patience_s, first_delay_s=0.2, max_delay_s=10.0)
    limits = ConversionLimits(
        settings.convert_memory_bytes,
        settings.convert_timeout_s,
        may_be_unconfined=settings.may_convert_unconfined,
    )
    import_settings = ImportSettings(settings.import_roots, settings.scratch_dir, limits)
    uploader = Uploader(store, S3RangeSource(settings.object_store), governor, retry)
    return Importer(uploader, import_settings)


async def run(settings: FetcherSettings, machine: str | None = None) -> None:
    """Until SIGTERM or SIGINT. Raises BusError when the bus cannot be reached at all, and
    UnsupportedMachine where it may not write unit files; `machine` is for tests."""
    require_store_order(machine)
    stop = _stop_event()
    conversion.sweep(settings.scratch_dir)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(S3ObjectStore(settings.object_store))
        fetcher = build(settings, store)
        fetcher.cache.adopt()
        stack.enter_context(UnitHeartbeat(fetcher.cache.beat))
        bus = await stack.enter_async_context(_connected(settings))
        stack.push_async_callback(fetcher.fetches.close)
        await stack.enter_async_context(fetcher.unit_server.serving())
        gc.freeze()  # what start-up made stays: never look through it again
        await fetcher.service.listen(bus)
        await _run_until(stop, _loops(settings, fetcher, bus))


async def run_importer(settings: ImporterSettings) -> None:
    """Only imports, until SIGTERM or SIGINT. Raises BusError when the bus cannot be reached."""
    stop = _stop_event()
    conversion.sweep(settings.scratch_dir)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(S3ObjectStore(settings.object_store))
        importer = _importer(settings, store, NicGovernor(settings.nic_bytes_per_s))
        bus = await stack.enter_async_context(_connected(settings))
        loops = [_import_worker(settings, importer, bus).run()]
        if settings.health_file is not None:
            loops.append(touch_health_file(settings.health_file))
        await _run_until(stop, loops)


def _loops(
    settings: FetcherSettings, fetcher: Fetcher, bus: NatsBus
) -> list[Coroutine[None, None, None]]:
    told = fetcher.service
    loops = [
        send_heartbeats(told, fetcher.changed, bus, settings.health_file),
        keep_warm(fetcher.cache, lambda: fetcher.fetches.is_idle),
        fetcher.cache.check_found(),
    ]
    if settings.can_import:
        loops.append(_import_worker(settings, fetcher.importer, bus).run())
    return loops


def _import_worker(settings: ImporterSettings, importer: Importer, bus: NatsBus) -> ImportWorker:
    queue = NatsWorkQueue(bus.client)
    return ImportWorker(queue, importer, bus, SystemClock(), settings.node_id)


async def _run_until(stop: asyncio.Event, loops: list[Coroutine[None, None, None]]) -> None:
    """The loops never end by themselves: an error in one ends the process."""
    stopping = asyncio.create_task(_stopped(stop))
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        await cancel_all((stopping, *tasks))


async def _stopped(stop: asyncio.Event) -> None:
    await stop.wait()


@asynccontextmanager
async def _connected(settings: ImporterSettings) -> AsyncIterator[NatsBus]:
    name = f"fetcher-{settings.node_id}"
    bus = await NatsBus.connect(settings.bus, Service.FETCHER, name=name)
    try:
        yield bus
    finally:
        await bus.close()


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
