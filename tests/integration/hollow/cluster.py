"""The other services' side of one node, real or hollow: what it is told, and what it says."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from libs.common.bus.bus import NatsBus
from libs.common.bus.messages import (
    Acknowledged,
    AcknowledgeFinish,
    AgentHeartbeat,
    BucketDigests,
    CachedUnitsListed,
    CancelRequest,
    DesiredReply,
    FetcherHeartbeat,
    FetchObserved,
    Generate,
    GenerateReply,
    ListCachedUnits,
    Message,
    NodeDesired,
    ReadBucketDigests,
    TokensGenerated,
    WorkerObserved,
)
from libs.common.bus.subjects import (
    ENDPOINT_ACKNOWLEDGE,
    ENDPOINT_CANCEL,
    ENDPOINT_GENERATE,
    NODE_AGENT_HEARTBEAT,
    NODE_BUCKET_DIGESTS,
    NODE_CACHED_UNITS,
    NODE_DESIRED_AGENT,
    NODE_DESIRED_FETCHER,
    NODE_FETCHER_HEARTBEAT,
    REQUEST_TOKENS,
    Service,
    Subject,
)
from libs.common.states import FetchState, WorkerState
from libs.common.weights.unit_set_digest import NUM_BUCKETS
from tests.integration.servers import RunningNats

NODE = "node-1"
WAIT_S = 60.0


@dataclass(frozen=True)
class Replies:
    """To one desired state."""

    agent: DesiredReply
    fetcher: DesiredReply


@dataclass
class Cluster:
    scheduler: NatsBus
    gateway: NatsBus
    agent_heartbeats: list[AgentHeartbeat] = field(default_factory=list)
    fetcher_heartbeats: list[FetcherHeartbeat] = field(default_factory=list)
    tokens: dict[str, list[TokensGenerated]] = field(default_factory=dict)
    _heard: asyncio.Condition = field(default_factory=asyncio.Condition)

    @classmethod
    async def open(cls, nats: RunningNats) -> "Cluster":
        scheduler = await NatsBus.connect(
            nats.settings(Service.SCHEDULER), Service.SCHEDULER, name="scheduler"
        )
        gateway = await NatsBus.connect(
            nats.settings(Service.GATEWAY), Service.GATEWAY, name="gateway"
        )
        cluster = cls(scheduler, gateway)
        await scheduler.subscribe(NODE_AGENT_HEARTBEAT, NODE, cluster._hear_agent)
        await scheduler.subscribe(NODE_FETCHER_HEARTBEAT, NODE, cluster._hear_fetcher)
        await gateway.subscribe(REQUEST_TOKENS, None, cluster._hear_tokens)
        return cluster

    async def close(self) -> None:
        await self.scheduler.close()
        await self.gateway.close()

    # ------------------------------------------------------------ what it is told

    async def desire(self, desired: NodeDesired) -> Replies:
        """As the scheduler sends it: the same to both services of the node."""
        agent = await self._ask(NODE_DESIRED_AGENT, desired)
        fetcher = await self._ask(NODE_DESIRED_FETCHER, desired)
        assert isinstance(agent, DesiredReply) and isinstance(fetcher, DesiredReply)
        return Replies(agent, fetcher)

    async def _ask(self, subject: Subject, desired: NodeDesired) -> Message:
        return await self.scheduler.request(subject, NODE, desired, timeout_s=5)

    async def cached_units(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """All of them, and the digests of the set's buckets."""
        asked = ListCachedUnits(buckets=tuple(range(NUM_BUCKETS)))
        listed = await self.scheduler.request(NODE_CACHED_UNITS, NODE, asked, timeout_s=5)
        buckets = await self.scheduler.request(
            NODE_BUCKET_DIGESTS, NODE, ReadBucketDigests(), timeout_s=5
        )
        assert isinstance(listed, CachedUnitsListed) and isinstance(buckets, BucketDigests)
        assert listed.is_last and listed.version == buckets.version
        return listed.units, buckets.set_digests

    async def generate(self, message: Generate) -> str:
        reply = await self.gateway.request(
            ENDPOINT_GENERATE, message.endpoint_id, message, timeout_s=5
        )
        assert isinstance(reply, GenerateReply)
        return reply.result

    async def cancel(self, message: Generate) -> bool:
        wanted = CancelRequest(request_id=message.request_id, attempt=message.attempt)
        return await self._acknowledged(ENDPOINT_CANCEL, message.endpoint_id, wanted)

    async def acknowledge(self, message: Generate) -> bool:
        wanted = AcknowledgeFinish(request_id=message.request_id, attempt=message.attempt)
        return await self._acknowledged(ENDPOINT_ACKNOWLEDGE, message.endpoint_id, wanted)

    async def _acknowledged(self, subject: Subject, endpoint_id: str, message: Message) -> bool:
        reply = await self.gateway.request(subject, endpoint_id, message, timeout_s=5)
        assert isinstance(reply, Acknowledged)
        return reply.known

    # -------------------------------------------------------------- what it says

    async def until(self, is_true: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S), self._heard:
            await self._heard.wait_for(is_true)

    async def until_worker(self, worker_id: str, *states: WorkerState) -> WorkerObserved:
        await self.until(lambda: self._worker_is(worker_id, states))
        worker = self.worker(worker_id)
        assert worker is not None
        return worker

    async def until_at_work(self, worker_id: str) -> WorkerObserved:
        def is_at_work() -> bool:
            worker = self.worker(worker_id)
            return worker is not None and worker.num_running > 0 and worker.step_us > 0

        await self.until(is_at_work)
        worker = self.worker(worker_id)
        assert worker is not None
        return worker

    async def until_gone(self, worker_id: str) -> None:
        await self.until(lambda: bool(self.agent_heartbeats) and self.worker(worker_id) is None)

    async def until_fetch(self, fetch_id: str, *states: FetchState) -> FetchObserved:
        def has_come() -> bool:
            fetch = self.fetch(fetch_id)
            return fetch is not None and fetch.state in states

        await self.until(has_come)
        fetch = self.fetch(fetch_id)
        assert fetch is not None
        return fetch

    async def until_ended(self, request_id: str) -> list[TokensGenerated]:
        await self.until(lambda: any(part.finish for part in self.tokens.get(request_id, ())))
        return self.tokens[request_id]

    async def until_beating(self) -> None:
        """Both services of the node have spoken since this call."""
        before = len(self.agent_heartbeats), len(self.fetcher_heartbeats)
        await self.until(
            lambda: (
                len(self.agent_heartbeats) > before[0] and len(self.fetcher_heartbeats) > before[1]
            )
        )

    def worker(self, worker_id: str) -> WorkerObserved | None:
        found = (w for w in self.agent_heartbeats[-1].workers if w.worker_id == worker_id)
        return next(found, None)

    def fetch(self, fetch_id: str) -> FetchObserved | None:
        latest = self.fetcher_heartbeats[-1].fetches if self.fetcher_heartbeats else ()
        return next((fetch for fetch in latest if fetch.fetch_id == fetch_id), None)

    def _worker_is(self, worker_id: str, states: tuple[WorkerState, ...]) -> bool:
        worker = self.worker(worker_id) if self.agent_heartbeats else None
        return worker is not None and worker.state in states

    async def _hear_agent(self, heartbeat: AgentHeartbeat) -> None:
        async with self._heard:
            self.agent_heartbeats.append(heartbeat)
            self._heard.notify_all()

    async def _hear_fetcher(self, heartbeat: FetcherHeartbeat) -> None:
        async with self._heard:
            self.fetcher_heartbeats.append(heartbeat)
            self._heard.notify_all()

    async def _hear_tokens(self, tokens: TokensGenerated) -> None:
        async with self._heard:
            self.tokens.setdefault(tokens.request_id, []).append(tokens)
            self._heard.notify_all()
