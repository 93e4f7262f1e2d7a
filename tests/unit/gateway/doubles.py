"""Doubles for the gateway's tests: a small tokenizer, a scheduler, a worker, stores, a whole app.

The scheduler and the worker speak over a bus as the real ones do, and misbehave on demand.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import httpx
from blake3 import blake3
from fastapi import FastAPI
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from libs.common.bus import Bus
from libs.common.clock import SystemClock
from libs.common.database import Database
from libs.common.errors import DatabaseUnavailable
from libs.common.manifest import tokenizer_key
from libs.common.messages import (
    Acknowledged,
    AcknowledgeFinish,
    CancelRequest,
    Generate,
    GenerateReply,
    Logprob,
    ModelSummary,
    RequestAssigned,
    ResendReply,
    ResendTokens,
    Route,
    RoutesPublished,
    SubmitAccepted,
    SubmitRefused,
    SubmitReply,
    SubmitRequest,
    TokensGenerated,
)
from libs.common.outbox import OutboxRelay
from libs.common.settings import BusSettings, DatabaseSettings, ObjectStoreSettings
from libs.common.states import FinishReason, ModelState
from libs.common.subjects import (
    ENDPOINT_ACKNOWLEDGE,
    ENDPOINT_CANCEL,
    ENDPOINT_GENERATE,
    ENDPOINT_RESEND,
    REQUEST_ASSIGNED,
    REQUEST_CANCEL,
    REQUEST_SUBMIT,
    REQUEST_TOKENS,
    ROUTES,
    Service,
)
from libs.common.testing import MemoryBroker
from libs.common.testing_objectstore import MemoryObjectStore
from services.gateway.app import create_app
from services.gateway.auth import Authenticator, hash_key
from services.gateway.context import Gateway
from services.gateway.generation.dispatch import Ports
from services.gateway.generation.dispatcher import Dispatcher
from services.gateway.generation.farewells import Farewells
from services.gateway.journal import Journal
from services.gateway.metrics import Metrics
from services.gateway.openai.prepare import Preparer
from services.gateway.registry import Registry
from services.gateway.routes import Routes
from services.gateway.settings import GatewaySettings, Limits, Timing
from services.gateway.store.history import ViewStore
from services.gateway.store.keys import KeyInfo, KeyStore
from services.gateway.store.models import ModelEntry, ModelStore
from services.gateway.store.nodes import NodeStore
from services.gateway.store.requests import BegunRow, EndedRow
from services.gateway.text.models import TextModels
from services.gateway.text.template_pool import TemplatePool
from services.gateway.text.tokenizer import TokenizerThreads
from services.gateway.text.tokenizer_files import FileStore

KEY = "hs-test-key"
TENANT = "acme"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{{ message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
FAST = Timing(
    repeat_s=0.1,
    submit_patience_s=0.5,
    silence_s=0.15,
    retry_s=0.02,
    call_timeout_s=0.2,
    progress_s=0.1,
    slow_client_s=0.3,
    heartbeat_s=0.05,
    cancel_patience_s=1.0,
    reconnect_grace_s=0.2,
)


def byte_tokenizer() -> Tokenizer:
    """One token per byte, and the special tokens of ChatML."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {character: index for index, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True) for text in ("<|im_start|>", "<|im_end|>")]
    )
    return tokenizer


TOKENIZER = byte_tokenizer()


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text, add_special_tokens=False).ids)


END_ID = ids_of("<|im_end|>")[0]


def summary_of(files: dict[str, bytes], max_context_tokens: int = 4096) -> ModelSummary:
    return ModelSummary(
        architecture="llama",
        dtype="bfloat16",
        num_layers=2,
        vocab_size=TOKENIZER.get_vocab_size(),
        max_context_tokens=max_context_tokens,
        kv_bytes_per_token=64,
        weight_bytes=1000,
        eos_token_ids=(END_ID,),
        units=(),
        tokenizer_files={n: (blake3(d).hexdigest(), len(d)) for n, d in files.items()},
    )


def tokenizer_files(template: str = CHAT_TEMPLATE) -> dict[str, bytes]:
    return {
        "tokenizer.json": TOKENIZER.to_str().encode(),
        "tokenizer_config.json": b'{"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}',
        "chat_template.jinja": template.encode(),
    }


def model_entry(name: str = "tiny", **changes: Any) -> ModelEntry:
    entry = ModelEntry(
        model_id=f"model-{name}",
        tenant=TENANT,
        name=name,
        source="/models/tiny",
        state=ModelState.READY,
        cause=None,
        is_public=False,
        slo_ttft_ms=10_000,
        slo_tpot_ms=1_000,
        keep_alive_s=60,
        max_pipeline_size=4,
        max_queue=10,
        max_slots=4,
        max_endpoints=2,
        max_context_tokens=None,
        kv_cache_bytes=None,
        bytes_done=0,
        bytes_total=0,
        backoff_until=None,
        manifest_digest=None,
        created_at=NOW,
        updated_at=NOW,
        summary=summary_of(tokenizer_files()),
    )
    return replace(entry, **changes)


@dataclass
class FakeKeys:
    """Knows one key of one tenant."""

    is_down: bool = False
    num_lookups: int = 0
    known: dict[str, KeyInfo] = field(
        default_factory=lambda: {hash_key(KEY): KeyInfo("key-1", TENANT, "test", NOW)}
    )

    async def find(self, key_sha256: str) -> KeyInfo | None:
        self.num_lookups += 1
        if self.is_down:
            raise DatabaseUnavailable("down")
        return self.known.get(key_sha256)


@dataclass
class FakeModels:
    entries: list[ModelEntry]
    is_down: bool = False

    async def read_all(self) -> tuple[ModelEntry, ...]:
        if self.is_down:
            raise DatabaseUnavailable("down")
        return tuple(self.entries)


@dataclass
class FakeWriter:
    begun: list[BegunRow] = field(default_factory=list)
    ended: list[EndedRow] = field(default_factory=list)
    is_down: bool = False

    async def write(self, begun: tuple[BegunRow, ...], ended: tuple[EndedRow, ...]) -> None:
        if self.is_down:
            raise DatabaseUnavailable("down")
        self.begun += begun
        self.ended += ended


@dataclass
class FakeScheduler:
    """Accepts and assigns to `endpoint_ids`, one per attempt, the last one for ever."""

    bus: Bus
    endpoint_ids: list[str] = field(default_factory=lambda: ["ep-1"])
    refusal: SubmitRefused | None = None
    is_assigning: bool = True
    submissions: list[SubmitRequest] = field(default_factory=list)
    cancelled: list[CancelRequest] = field(default_factory=list)
    assigned: dict[tuple[str, int], RequestAssigned] = field(default_factory=dict)

    async def start(self) -> None:
        await self.bus.subscribe(REQUEST_SUBMIT, None, self._on_submit, concurrency=64)
        await self.bus.subscribe(REQUEST_CANCEL, None, self._on_cancel)

    async def _on_submit(self, message: SubmitRequest) -> SubmitReply:
        self.submissions.append(message)
        if self.refusal is not None:
            return SubmitReply(result=self.refusal)
        key = (message.request_id, message.attempt)
        if self.is_assigning and key not in self.assigned:
            await self._assign(message)
        return SubmitReply(result=SubmitAccepted(queue_position=0, assigned=self.assigned.get(key)))

    async def _assign(self, message: SubmitRequest) -> None:
        index = min(len(self.assigned), len(self.endpoint_ids) - 1)
        assigned = RequestAssigned(
            request_id=message.request_id,
            attempt=message.attempt,
            endpoint_id=self.endpoint_ids[index],
            epoch=1,
        )
        self.assigned[(message.request_id, message.attempt)] = assigned
        await self.bus.publish(REQUEST_ASSIGNED, message.request_id, assigned)

    async def _on_cancel(self, message: CancelRequest) -> Acknowledged:
        self.cancelled.append(message)
        return Acknowledged(known=True)


@dataclass
class FakeWorker:
    """Answers every request with `answer_ids`, going on after what was generated already."""

    bus: Bus
    endpoint_id: str = "ep-1"
    answer_ids: tuple[int, ...] = (*ids_of("Hello, wörld!"), END_ID)
    finish: FinishReason = FinishReason.STOP
    replies: list[str] = field(default_factory=list)  # to the next generates, then accepted
    pause_after: int | None = None  # tokens; then it waits for `go_on`
    skip_publishing: Callable[[TokensGenerated], bool] = field(default=lambda _message: False)
    generated: list[Generate] = field(default_factory=list)
    cancelled: list[CancelRequest] = field(default_factory=list)
    acknowledged: list[AcknowledgeFinish] = field(default_factory=list)
    resends: list[ResendTokens] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    _running: dict[str, Generate] = field(default_factory=dict)
    _made: dict[str, int] = field(default_factory=dict)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    _subscriptions: list[Any] = field(default_factory=list)

    async def start(self) -> None:
        for subject, handler in (
            (ENDPOINT_GENERATE, self._on_generate),
            (ENDPOINT_RESEND, self._on_resend),
            (ENDPOINT_CANCEL, self._on_cancel),
            (ENDPOINT_ACKNOWLEDGE, self._on_acknowledge),
        ):
            subscription = await self.bus.subscribe(subject, self.endpoint_id, handler)
            self._subscriptions.append(subscription)

    async def die(self) -> None:
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        for task in self._tasks:
            task.cancel()

    async def _on_generate(self, message: Generate) -> GenerateReply:
        self.generated.append(message)
        if self.replies:
            return GenerateReply(result=self.replies.pop(0))  # type: ignore[arg-type] # the test's word
        if message.request_id not in self._running:
            self._running[message.request_id] = message
            task = asyncio.create_task(self._generate(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return GenerateReply(result="accepted")

    async def _generate(self, message: Generate) -> None:
        first = len(message.generated_ids)
        end = min(len(self.answer_ids), message.sampling.max_tokens)
        for index in range(first, end):
            if self.pause_after is not None and index >= self.pause_after:
                await self.go_on.wait()
            self._made[message.request_id] = index + 1
            tokens = self._tokens(message, index, index + 1)
            if not self.skip_publishing(tokens):
                await self.bus.publish(REQUEST_TOKENS, message.request_id, tokens)

    def _tokens(self, message: Generate, start: int, end: int) -> TokensGenerated:
        limit = min(len(self.answer_ids), message.sampling.max_tokens)
        is_cut = message.sampling.max_tokens < len(self.answer_ids)
        finish = FinishReason.LENGTH if is_cut else self.finish
        ids = self.answer_ids[start:end]
        wanted = message.sampling.num_logprobs
        return TokensGenerated(
            request_id=message.request_id,
            attempt=message.attempt,
            start_index=start,
            ids=ids,
            logprobs=None if wanted is None else tuple(_logprob(i, wanted) for i in ids),
            finish=finish if end == limit else None,
        )

    async def _on_resend(self, message: ResendTokens) -> ResendReply:
        self.resends.append(message)
        running = self._running.get(message.request_id)
        if running is None or running.attempt != message.attempt:
            return ResendReply(known=False)
        made = self._made.get(message.request_id, 0)
        if made > message.from_index:
            tokens = self._tokens(running, message.from_index, made)
            await self.bus.publish(REQUEST_TOKENS, message.request_id, tokens)
        return ResendReply(known=True, next_index=made)

    async def _on_cancel(self, message: CancelRequest) -> Acknowledged:
        self.cancelled.append(message)
        return Acknowledged(known=message.request_id in self._running)

    async def _on_acknowledge(self, message: AcknowledgeFinish) -> Acknowledged:
        self.acknowledged.append(message)
        return Acknowledged(known=True)


def _logprob(token_id: int, num_top: int) -> Logprob:
    return Logprob(logprob=-0.5, top=((token_id, -0.5), (token_id + 1, -1.5))[:num_top])


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

    async def warm_route(self, *endpoint_ids: str) -> None:
        routes = tuple(Route(endpoint_id=e, epoch=1, max_slots=4) for e in endpoint_ids)
        message = RoutesPublished(leader_epoch=1, routes={"model-tiny": routes})
        await self.broker.bus().publish(ROUTES, None, message)
        await eventually(lambda: len(self.gateway.routes.candidates("model-tiny")) > 0)


async def eventually(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Waits for a condition that other tasks bring about; fails the test at the deadline."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the condition is of any kind
            await asyncio.sleep(0.005)


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


async def objects_with(files: dict[str, bytes]) -> MemoryObjectStore:
    objects = MemoryObjectStore()
    for data in files.values():
        digest = blake3(data).hexdigest()
        await objects.put_bytes(tokenizer_key(digest), data, digest=digest)
    return objects


@asynccontextmanager
async def gateway_world(
    timing: Timing = FAST,
    limits: Limits | None = None,
    entries: list[ModelEntry] | None = None,
    files: dict[str, bytes] | None = None,
) -> AsyncIterator[GatewayWorld]:
    limits = limits or Limits(num_template_processes=1)
    settings, clock, broker = unused_settings(timing, limits), SystemClock(), MemoryBroker()
    database = Database.open(settings.database)
    keys, models_, writer = FakeKeys(), FakeModels(entries or [model_entry()]), FakeWriter()
    bus = broker.bus()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        stack.push_async_callback(bus.close)
        threads = TokenizerThreads(1)
        stack.callback(threads.close)
        templates = await stack.enter_async_context(TemplatePool(limits.num_template_processes))
        registry, routes, metrics = Registry(models_, clock), Routes(clock), Metrics()
        await registry.refresh()
        store = FileStore(await objects_with(files or tokenizer_files()), None, 2**20)
        texts = TextModels(store, threads, 4)
        farewells, journal = Farewells(bus, clock, timing), Journal(writer, clock)
        stack.push_async_callback(farewells.close, 1.0)
        ports = Ports(bus, clock, routes, farewells, timing)
        gateway = Gateway(
            bus=bus,
            authenticator=Authenticator(keys, clock),
            registry=registry,
            routes=routes,
            preparer=Preparer("gateway-test", registry, texts, templates, clock, timing, limits),
            dispatcher=Dispatcher(ports, journal, metrics, limits),
            farewells=farewells,
            journal=journal,
            metrics=metrics,
            outbox=OutboxRelay(database, bus, Service.GATEWAY),
            keys=KeyStore(database),
            models=ModelStore(database),
            nodes=NodeStore(database),
            views=ViewStore(database),
        )
        gateway.watch_gauges()
        await bus.subscribe(ROUTES, None, routes.heard)
        writing = asyncio.create_task(journal.run())
        stack.callback(writing.cancel)
        scheduler, worker = FakeScheduler(broker.bus()), FakeWorker(broker.bus())
        await scheduler.start()
        await worker.start()
        stack.push_async_callback(scheduler.bus.close)
        stack.push_async_callback(worker.bus.close)
        app = create_app(gateway, limits.max_body_bytes)
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app),
                base_url="http://gateway",
                headers={"Authorization": f"Bearer {KEY}"},
            )
        )
        yield GatewayWorld(broker, gateway, app, client, scheduler, worker, keys, models_, writer)
