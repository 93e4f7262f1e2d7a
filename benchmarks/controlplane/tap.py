"""Listens beside the services to what they say on the bus: when requests were submitted, and when
desired states were sent. Uses the credentials of those who may hear it, and answers nothing."""

import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from deploy.local.servers.servers import Servers
from libs.common.bus.subjects import (
    NODE_AGENT_HEARTBEAT,
    NODE_DESIRED_AGENT,
    NODE_DESIRED_FETCHER,
    NODE_FETCHER_HEARTBEAT,
    REQUEST_SUBMIT,
    Service,
    Subject,
)

_REQUEST_ID = re.compile(rb'"request_id":"([^"]+)"')
_WORKER_ID = re.compile(rb'"worker_id":"([^"]+)"')
_EPOCH = re.compile(rb'"leader_epoch":(\d+)')


@dataclass
class Tap:
    """Moments are `time.monotonic()` of this process, the first of each kind."""

    submitted_s: dict[str, float] = field(default_factory=dict)  # by request
    fetchers_told_s: dict[str, float] = field(default_factory=dict)  # by worker
    agents_told_s: dict[str, float] = field(default_factory=dict)  # by worker
    epochs_told_s: dict[tuple[str, int], float] = field(default_factory=dict)  # by subject, epoch
    heartbeat_bytes: dict[str, list[int]] = field(default_factory=dict)  # by process kind

    async def on_submit(self, message: Msg) -> None:
        found = _REQUEST_ID.search(message.data)
        if found is not None:
            self.submitted_s.setdefault(found[1].decode(), time.monotonic())

    async def on_fetcher_told(self, message: Msg) -> None:
        self._note(message, self.fetchers_told_s)

    async def on_agent_told(self, message: Msg) -> None:
        self._note(message, self.agents_told_s)

    def _note(self, message: Msg, told_s: dict[str, float]) -> None:
        now_s = time.monotonic()
        for worker_id in _WORKER_ID.findall(message.data):
            told_s.setdefault(worker_id.decode(), now_s)
        epoch = _EPOCH.search(message.data)
        if epoch is not None:
            self.epochs_told_s.setdefault((message.subject, int(epoch[1])), now_s)

    def sent_s(self, worker_ids: list[str]) -> float | None:
        """When the last of their nodes' two processes was told of them; None: not all were."""
        moments = [
            told.get(id_)
            for id_ in worker_ids
            for told in (self.fetchers_told_s, self.agents_told_s)
        ]
        known = [moment for moment in moments if moment is not None]
        return max(known) if known and len(known) == len(moments) else None

    def num_told(self, epoch: int) -> int:
        """Processes of nodes that were told of the epoch."""
        return sum(1 for _, told in self.epochs_told_s if told == epoch)


@asynccontextmanager
async def listening(servers: Servers) -> AsyncIterator[Tap]:
    """To desired states, for as long as the block runs."""
    tap = Tap()
    async with AsyncExitStack() as stack:
        for service, subject, handler in (
            (Service.FETCHER, NODE_DESIRED_FETCHER, tap.on_fetcher_told),
            (Service.WORKER, NODE_DESIRED_AGENT, tap.on_agent_told),
        ):
            client = await stack.enter_async_context(_connected(servers, service))
            await client.subscribe(_any(subject), cb=handler)
        yield tap


@asynccontextmanager
async def hearing_submissions(servers: Servers, tap: Tap) -> AsyncIterator[None]:
    """Not while a leader is missing: gateways see from the lack of listeners that none is there."""
    async with _connected(servers, Service.SCHEDULER) as client:
        await client.subscribe(_any(REQUEST_SUBMIT), cb=tap.on_submit)
        yield


@asynccontextmanager
async def weighing_heartbeats(servers: Servers, tap: Tap) -> AsyncIterator[None]:
    async def agent(message: Msg) -> None:
        tap.heartbeat_bytes.setdefault("agent", []).append(len(message.data))

    async def fetcher(message: Msg) -> None:
        tap.heartbeat_bytes.setdefault("fetcher", []).append(len(message.data))

    async with _connected(servers, Service.SCHEDULER) as client:
        await client.subscribe(_any(NODE_AGENT_HEARTBEAT), cb=agent)
        await client.subscribe(_any(NODE_FETCHER_HEARTBEAT), cb=fetcher)
        yield


def _any(subject: Subject) -> str:
    return subject.wildcard


@asynccontextmanager
async def _connected(servers: Servers, service: Service) -> AsyncIterator[Client]:
    settings = servers.bus_settings(service)
    client = await nats.connect(
        settings.url,
        user=settings.user,
        password=settings.password,
        inbox_prefix=service.inbox_prefix,
        name="benchmark",
    )
    try:
        yield client
    finally:
        await client.close()
