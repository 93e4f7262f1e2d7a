"""One gateway with everything around it a double, and short ways to ask it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

from libs.common.bus.messages import Route, RoutesPublished
from libs.common.bus.subjects import ROUTES, Service
from libs.common.clock import SystemClock
from libs.common.records.database import Database
from libs.common.records.outbox import OutboxRelay
from libs.common.settings import BusSettings, DatabaseSettings, ObjectStoreSettings
from libs.common.tenant_shares import TenantShares
from libs.common.testing.bus import MemoryBroker, MemoryBus
from services.gateway.auth import Authenticator
from services.gateway.context import Gateway
from services.gateway.end_notifier import EndNotifier
from services.gateway.generation.bus_monitor import BusMonitor
from services.gateway.generation.cancel_retrier import CancelRetrier
from services.gateway.generation.dispatch import Ports
from services.gateway.generation.dispatcher import Dispatcher
from services.gateway.generation.waiting_requests import WaitingRequests
from services.gateway.http.app import create_app
from services.gateway.http.body_pace import BodyPace
from services.gateway.journal import Journal
from services.gateway.key_uses import KeyUses
from services.gateway.metrics.metrics import Metrics
from services.gateway.openai.prepare import Preparer
from services.gateway.registry.model_lists import ModelLists
from services.gateway.registry.model_registry import ModelRegistry
from services.gateway.routing.route_table import RouteTable
from services.gateway.settings import GatewaySettings, Limits, Timing
from services.gateway.store.history import ViewStore
from services.gateway.store.keys import KeyStore
from services.gateway.store.model_entry import ModelEntry
from services.gateway.store.models import ModelStore
from services.gateway.store.nodes import NodeStore
from services.gateway.store.usage import UsageStore
from services.gateway.tenant_limits import TenantLimits
from services.gateway.text.template_pool import TemplatePool
from services.gateway.text.text_models import TextModelCache
from services.gateway.text.tokenizer_files import FileStore
from tests.support.waiting import eventually
from tests.unit.gateway.documented import api_document, undocumented
from tests.unit.gateway.fakescheduler import FakeScheduler
from tests.unit.gateway.fakeworker import FakeWorker
from tests.unit.gateway.stores import KEY, FakeKeys, FakeModels, FakeWriter, Stores
from tests.unit.gateway.tiny import model_entry, objects_with, tokenizer_files
from tests.unit.gateway.tokenizers import InProcessTokenizers

FAST = Timing(
    repeat_s=0.1,
    submit_timeout_s=0.5,
    silence_s=0.15,
    retry_s=0.02,
    call_timeout_s=0.2,
    progress_s=0.1,
    slow_client_s=0.3,
    heartbeat_s=0.05,
    cancel_timeout_s=1.0,
    bus_probe_s=0.02,
    bus_timeout_s=0.1,
    reconnect_grace_s=0.2,
)


@dataclass
class GatewayWorld:
    """One gateway in this process, with everything around it a double."""

    broker: MemoryBroker
    gateway: Gateway
    app: FastAPI
    client: httpx.AsyncClient
    scheduler: FakeScheduler
    worker: FakeWorker
    keys: FakeKeys
    models: FakeModels
    writer: FakeWriter

    async def chat(self, text: str = "hi", **parameters: Any) -> httpx.Response:
        body = {"model": "tiny", "messages": [{"role": "user", "content": text}], **parameters}
        return await self.client.post("/v1/chat/completions", json=body)

    async def complete(self, prompt: Any = "hi", **parameters: Any) -> httpx.Response:
        body = {"model": "tiny", "prompt": prompt, **parameters}
        return await self.client.post("/v1/completions", json=body)

    async def warm_route(self, *endpoint_ids: str) -> None:
        routes = tuple(Route(endpoint_id=e, epoch=1, max_slots=4) for e in endpoint_ids)
        message = RoutesPublished(leader_epoch=1, routes={"model-tiny": routes})
        await self.broker.bus().publish(ROUTES, None, message)
        await eventually(lambda: len(self.gateway.routes.candidates("model-tiny")) > 0)


def text_of(response: httpx.Response) -> str:
    content: str = response.json()["choices"][0]["message"]["content"]
    return content


async def worker_for(world: GatewayWorld, endpoint_id: str, **changes: Any) -> FakeWorker:
    worker = FakeWorker(world.broker.bus(), endpoint_id=endpoint_id, **changes)
    await worker.start()
    return worker


@asynccontextmanager
async def gateway_world(
    timing: Timing = FAST,
    limits: Limits | None = None,
    entries: list[ModelEntry] | None = None,
    files: dict[str, bytes] | None = None,
) -> AsyncIterator[GatewayWorld]:
    limits, broker = limits or Limits(num_template_processes=1), MemoryBroker()
    stores = Stores(FakeKeys(), FakeModels(entries or [model_entry()]), FakeWriter())
    async with AsyncExitStack() as stack:
        bus = await _closed_after(stack, broker.bus())
        texts = await _texts(files or tokenizer_files())
        templates = await stack.enter_async_context(TemplatePool(limits.num_template_processes))
        gateway = await _gateway(stack, bus, stores, texts, templates, timing, limits)
        scheduler = FakeScheduler(await _closed_after(stack, broker.bus()))
        worker = FakeWorker(await _closed_after(stack, broker.bus()))
        await scheduler.start()
        await worker.start()
        app = create_app(gateway, limits.max_body_bytes)
        client = await stack.enter_async_context(_client(app))
        fakes = (scheduler, worker, stores.keys, stores.models, stores.writer)
        yield GatewayWorld(broker, gateway, app, client, *fakes)


async def _closed_after(stack: AsyncExitStack, bus: MemoryBus) -> MemoryBus:
    stack.push_async_callback(bus.close)
    return bus


async def _texts(files: dict[str, bytes]) -> TextModelCache:
    objects = await objects_with(files)
    return TextModelCache(FileStore(objects, None, 2**20), InProcessTokenizers(), 2**20)


async def _gateway(
    stack: AsyncExitStack,
    bus: MemoryBus,
    stores: Stores,
    texts: TextModelCache,
    templates: TemplatePool,
    timing: Timing,
    limits: Limits,
) -> Gateway:
    """As bootstrap assembles it, running."""
    clock, database = SystemClock(), Database.open(unused_settings(timing, limits).database)
    stack.push_async_callback(database.close)
    registry = ModelRegistry(stores.models, clock, limits.max_cached_model_bytes)
    routes, metrics = RouteTable(clock), Metrics(clock)
    cancel_retrier, end_notifier = (
        CancelRetrier(bus, clock, timing),
        EndNotifier(bus, "gateway-test"),
    )
    waiting = WaitingRequests(bus, "gateway-test", timing)
    monitor = BusMonitor(bus, clock, timing)
    journal = Journal(stores.writer, clock, end_notifier.notify)
    stack.push_async_callback(cancel_retrier.close, 1.0)
    gateway = Gateway(
        bus=bus,
        authenticator=Authenticator(stores.keys, clock),
        body_pace=BodyPace(limits.tenant_body_bytes_per_s, limits.max_body_bytes, clock),
        tenant_limits=TenantLimits(
            TenantShares(),
            max_open_requests=limits.max_open_requests,
            max_waiting_bytes=limits.max_waiting_bytes,
        ),
        registry=registry,
        lists=ModelLists(stores.models, registry),
        routes=routes,
        preparer=Preparer("gateway-test", registry, texts, templates, clock, timing, limits),
        dispatcher=Dispatcher(
            Ports(bus, monitor, clock, routes, cancel_retrier, waiting, timing),
            journal,
            metrics,
            limits,
        ),
        cancel_retrier=cancel_retrier,
        waiting=waiting,
        journal=journal,
        metrics=metrics,
        outbox=OutboxRelay(database, bus, Service.GATEWAY),
        keys=KeyStore(database),
        key_uses=KeyUses(KeyStore(database)),
        models=ModelStore(database),
        nodes=NodeStore(database),
        views=ViewStore(database),
        usage=UsageStore(database),
    )
    gateway.watch_gauges()
    await registry.refresh()
    await bus.subscribe(ROUTES, None, routes.on_published)
    stack.callback(asyncio.create_task(journal.run()).cancel)
    stack.callback(asyncio.create_task(waiting.run()).cancel)
    stack.callback(asyncio.create_task(monitor.run()).cancel)
    return gateway


def _client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://gateway",
        headers={"Authorization": f"Bearer {KEY}"},
        event_hooks={"response": [_require_documented(app)]},
    )


def _require_documented(app: FastAPI) -> Callable[[httpx.Response], Awaitable[None]]:
    """Whatever a test brings about: its status and headers are in the OpenAPI document."""

    async def check(response: httpx.Response) -> None:
        assert undocumented(api_document(app), response) == []

    return check


def unused_settings(timing: Timing, limits: Limits) -> GatewaySettings:
    return GatewaySettings(
        gateway_id="gateway-test",
        host="127.0.0.1",
        port=0,
        database=DatabaseSettings("postgresql://nobody@127.0.0.1:1/none", "none"),
        bus=BusSettings("nats://127.0.0.1:1", "none", "none"),
        object_store=ObjectStoreSettings("http://127.0.0.1:1", "b", "r", "k", "s"),
        bootstrap_api_key=None,
        health_file=None,
        tokenizer_folder=None,
        drain_timeout_s=1.0,
        log_level="INFO",
        timing=timing,
        limits=limits,
    )
