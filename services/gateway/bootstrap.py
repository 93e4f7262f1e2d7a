"""Builds the gateway once, from its settings; everything with a lifetime ends with the block."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import ProgrammingError

from libs.common.bus.bus import Bus, NatsBus
from libs.common.bus.subjects import ROUTES, Service
from libs.common.cancellation import cancel_all
from libs.common.clock import Clock, SystemClock
from libs.common.errors import DatabaseUnavailable
from libs.common.objectstore.objectstore import ObjectStore
from libs.common.objectstore.s3store import S3ObjectStore
from libs.common.observability import telemetry
from libs.common.records.database import Database
from libs.common.records.outbox import OutboxRelay
from services.gateway.auth import Authenticator, hash_key
from services.gateway.context import Gateway
from services.gateway.end_notifier import EndNotifier
from services.gateway.generation.bus_monitor import BusMonitor
from services.gateway.generation.cancel_retrier import CancelRetrier
from services.gateway.generation.dispatch import Ports
from services.gateway.generation.dispatcher import Dispatcher
from services.gateway.generation.waiting_requests import WaitingRequests
from services.gateway.heartbeat import send_heartbeats, touch_health_file
from services.gateway.http.body_pace import BodyPace
from services.gateway.http.descriptors import connections_within_limit
from services.gateway.journal import Journal
from services.gateway.key_uses import KeyUses
from services.gateway.metrics.metrics import Metrics
from services.gateway.openai.prepare import Preparer
from services.gateway.registry.model_lists import ModelLists
from services.gateway.registry.model_registry import ModelRegistry
from services.gateway.routing.route_loader import RouteLoader
from services.gateway.routing.route_table import RouteTable
from services.gateway.settings import GatewaySettings
from services.gateway.store.history import ViewStore
from services.gateway.store.keys import KeyStore
from services.gateway.store.model_queries import ModelQueries
from services.gateway.store.models import ModelStore
from services.gateway.store.nodes import NodeStore
from services.gateway.store.requests import RequestStore
from services.gateway.store.schema import require_columns
from services.gateway.store.usage import UsageStore
from services.gateway.tenant_limits import TenantLimits
from services.gateway.text.template_pool import TemplatePool
from services.gateway.text.text_models import TextModelCache
from services.gateway.text.tokenizer_files import FileStore
from services.gateway.text.tokenizer_folder import TokenizerFolder
from services.gateway.text.tokenizer_pool import TokenizerPool
from services.gateway.text.tokenizer_preloader import TokenizerPreloader

logger = logging.getLogger(__name__)

_JOURNAL_CLOSE_S = 5.0
_CANCEL_RETRIER_CLOSE_S = 2.0  # a worker that misses one finds out by its own deadline
_DATABASE_RETRY_S = 0.5


@dataclass(frozen=True)
class Backends:
    """What the gateway uses outside of its process; tests bring their own."""

    bus: Bus
    database: Database
    objects: ObjectStore
    clock: Clock


@asynccontextmanager
async def open_backends(settings: GatewaySettings) -> AsyncIterator[Backends]:
    """Raises BusError when NATS cannot be reached at all. Postgres may come later."""
    telemetry.configure_logging("gateway", settings.log_level)
    telemetry.configure_tracing("gateway", settings.gateway_id)
    async with AsyncExitStack() as stack:
        database = Database.open(settings.database, pool_size=8)
        stack.push_async_callback(database.close)
        objects = await stack.enter_async_context(S3ObjectStore(settings.object_store))
        bus = await NatsBus.connect(settings.bus, Service.GATEWAY, name=settings.gateway_id)
        stack.push_async_callback(bus.close)
        yield Backends(bus, database, objects, SystemClock())


@asynccontextmanager
async def open_gateway(settings: GatewaySettings, backends: Backends) -> AsyncIterator[Gateway]:
    """Everything runs until the block ends; draining comes before, see `server.py`."""
    async with AsyncExitStack() as stack:
        limits = settings.limits
        tokenizers = await stack.enter_async_context(
            TokenizerPool(limits.num_tokenizer_processes, limits.max_cached_tokenizer_bytes)
        )
        templates = await stack.enter_async_context(
            TemplatePool(settings.limits.num_template_processes)
        )
        gateway = _assemble(settings, backends, tokenizers, templates)
        if settings.bootstrap_api_key is not None:
            gateway.authenticator.await_row(hash_key(settings.bootstrap_api_key))
        routes = await backends.bus.subscribe(ROUTES, None, gateway.routes.on_published)
        stack.push_async_callback(routes.unsubscribe)
        stack.push_async_callback(gateway.journal.close, _JOURNAL_CLOSE_S)
        stack.push_async_callback(gateway.cancel_retrier.close, _CANCEL_RETRIER_CLOSE_S)
        await stack.enter_async_context(_running(_background(settings, backends, gateway)))
        yield gateway


def _assemble(
    settings: GatewaySettings,
    backends: Backends,
    tokenizers: TokenizerPool,
    templates: TemplatePool,
) -> Gateway:
    limits, timing, clock = settings.limits, settings.timing, backends.clock
    keys, models = KeyStore(backends.database), ModelStore(backends.database)
    key_uses = KeyUses(keys)
    files = FileStore(backends.objects, _folder(settings), limits.max_tokenizer_bytes)
    texts = TextModelCache(files, tokenizers, limits.max_cached_tokenizer_bytes)
    queries = ModelQueries(backends.database)
    registry = ModelRegistry(queries, clock, limits.max_cached_model_bytes)
    routes, metrics = RouteTable(clock), Metrics(clock)
    cancel_retrier = CancelRetrier(backends.bus, clock, timing)
    end_notifier = EndNotifier(backends.bus, settings.gateway_id)
    journal = Journal(RequestStore(backends.database), clock, end_notifier.notify)
    waiting = WaitingRequests(backends.bus, settings.gateway_id, timing)
    monitor = BusMonitor(backends.bus, clock, timing)
    ports = Ports(backends.bus, monitor, clock, routes, cancel_retrier, waiting, timing)
    gateway = Gateway(
        bus=backends.bus,
        authenticator=Authenticator(keys, clock, key_uses.note),
        body_pace=BodyPace(limits.tenant_body_bytes_per_s, limits.max_body_bytes, clock),
        tenant_limits=TenantLimits(
            settings.tenant_shares,
            # Each takes a connection; else one tenant's could be all that there may be.
            max_open_requests=min(
                limits.max_open_requests, connections_within_limit(limits.max_connections)
            ),
            max_waiting_bytes=limits.max_waiting_bytes,
        ),
        registry=registry,
        lists=ModelLists(queries, registry),
        routes=routes,
        preparer=Preparer(settings.gateway_id, registry, texts, templates, clock, timing, limits),
        dispatcher=Dispatcher(ports, journal, metrics, limits),
        cancel_retrier=cancel_retrier,
        waiting=waiting,
        journal=journal,
        metrics=metrics,
        outbox=OutboxRelay(backends.database, backends.bus, Service.GATEWAY),
        keys=keys,
        key_uses=key_uses,
        models=models,
        nodes=NodeStore(backends.database),
        views=ViewStore(backends.database),
        usage=UsageStore(backends.database),
    )
    gateway.watch_gauges()
    return gateway


def _folder(settings: GatewaySettings) -> TokenizerFolder | None:
    path, max_bytes = settings.tokenizer_folder, settings.limits.max_tokenizer_folder_bytes
    return None if path is None else TokenizerFolder(path, max_bytes)


def _background(
    settings: GatewaySettings, backends: Backends, gateway: Gateway
) -> list[Coroutine[Any, Any, None]]:
    """What runs besides the requests."""
    interval_s = settings.timing.heartbeat_s
    tasks = [
        _work_on_database(settings, backends, gateway),
        gateway.journal.run(),
        gateway.waiting.run(),
        gateway.dispatcher.monitor.run(),
        RouteLoader(backends.bus, gateway.routes, settings.timing).run(),
        send_heartbeats(backends.bus, gateway.dispatcher, settings.gateway_id, interval_s),
        _tokenizer_preloader(settings, gateway).run(),
    ]
    if settings.health_file is not None:
        tasks.append(touch_health_file(settings.health_file))
    return tasks


def _tokenizer_preloader(settings: GatewaySettings, gateway: Gateway) -> TokenizerPreloader:
    texts, limit = gateway.preparer.texts, settings.limits.max_cached_tokenizer_bytes
    return TokenizerPreloader(gateway.registry.recent_facts, texts, limit)


async def _work_on_database(
    settings: GatewaySettings, backends: Backends, gateway: Gateway
) -> None:
    """A scheduler migrates the database; until it has, there is nothing to read."""
    await _until_migrated(backends.database)
    if settings.bootstrap_api_key is not None:
        await _put_bootstrap_key(gateway, hash_key(settings.bootstrap_api_key))
    async with asyncio.TaskGroup() as group:
        group.create_task(gateway.registry.run(backends.bus))
        group.create_task(gateway.outbox.run())
        group.create_task(gateway.key_uses.run())


async def _until_migrated(database: Database) -> None:
    while True:
        try:
            return await require_columns(database)
        except (DatabaseUnavailable, ProgrammingError) as exc:
            logger.warning("the database is not ready: %s", str(exc).splitlines()[0])
            await asyncio.sleep(_DATABASE_RETRY_S)


async def _put_bootstrap_key(gateway: Gateway, key_sha256: str) -> None:
    while True:
        try:
            info = await gateway.keys.put_bootstrap(key_sha256)
            if info is None:
                logger.warning("the bootstrap key was revoked: a new one needs a new value")
            return gateway.authenticator.row_written(key_sha256)
        except DatabaseUnavailable as exc:
            logger.warning("the bootstrap key waits: %s", exc)
            await asyncio.sleep(_DATABASE_RETRY_S)


@asynccontextmanager
async def _running(work: list[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Background tasks. One that fails is a bug: it takes the process down, loudly."""
    owner = asyncio.current_task()
    assert owner is not None

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is not None:
            logger.critical("a background task failed", exc_info=task.exception())
            owner.cancel("a background task failed")

    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    finally:
        await cancel_all(tasks)
