"""The leader's life: which message goes to which handler, and the loops beside them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from libs.common.bus.bus import Bus, Subscription
from libs.common.bus.message_hold import MessageHold
from libs.common.bus.messages import (
    AgentHeartbeat,
    FetcherHeartbeat,
    GatewayHeartbeat,
    ImportProgressed,
    ModelsChanged,
    RequestsEnded,
)
from libs.common.bus.subjects import (
    GATEWAY_HEARTBEAT,
    IMPORT_PROGRESS,
    MODELS_CHANGED,
    NODE_AGENT_HEARTBEAT,
    NODE_FETCHER_HEARTBEAT,
    REQUEST_CANCEL,
    REQUEST_SUBMIT,
    REQUESTS_ENDED,
    REQUESTS_WAITING,
    ROUTES_LIST,
)
from libs.common.clock import Clock
from libs.common.errors import DatabaseUnavailable
from libs.common.observability import telemetry
from libs.common.records.outbox import OutboxRelay
from services.scheduler.errors import LeadershipLost
from services.scheduler.health import Health
from services.scheduler.intake.imports import Imports
from services.scheduler.intake.submissions import Submissions
from services.scheduler.node_retention import NodeRetention
from services.scheduler.observation.heartbeat_limits import invalid_field
from services.scheduler.observation.heartbeat_log import HeartbeatLog
from services.scheduler.observation.host_cache_comparison import HostCacheComparison
from services.scheduler.observation.news import News
from services.scheduler.policy.observed import NodeProcess
from services.scheduler.retention import Retention
from services.scheduler.rounds.change_log import ChangeLog
from services.scheduler.rounds.loop import RoundLoop
from services.scheduler.store.columns.text import storable

logger = logging.getLogger(__name__)

# They share transactions, where tenants take turns; in front of it is first come, first served. So
# it is more than several gateways have open, and only bounds what a fault could pile up.
SUBMIT_CONCURRENCY = 32_768
COMPARE_INTERVAL_S = 0.25  # between two looks for host caches whose rows differ
MAX_ROUNDS = 64  # in a row; then a pause
MIN_PAUSE_S, MAX_PAUSE_S = 0.02, 0.25
PAUSE_SHARE = 0.25  # of what the work took: under load, too, there is time for other things


@dataclass
class Controller:
    bus: Bus
    clock: Clock
    log: HeartbeatLog
    changes: ChangeLog
    submissions: Submissions
    rounds: RoundLoop
    imports: Imports
    comparison: HostCacheComparison
    retention: Retention
    node_retention: NodeRetention
    relay: OutboxRelay
    health: Health
    wake: asyncio.Event  # something has changed
    hurry: asyncio.Event  # somebody waits for the next round
    hold: MessageHold  # of heartbeats of nodes; the rounds close it
    interval_s: float
    retention_interval_s: float
    _import_wake: asyncio.Event = field(default_factory=asyncio.Event)
    _subscriptions: list[Subscription] = field(default_factory=list)

    @property
    def is_listening(self) -> bool:
        return bool(self._subscriptions)

    async def run(self) -> None:
        """Lead until cancelled. Raises LeadershipLost."""
        try:
            await self._subscribe()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._repeat(self._reconcile, self.wake, hurry=self.hurry))
                tasks.create_task(self._repeat(self._import, self._import_wake))
                tasks.create_task(self._compare_host_caches())
                tasks.create_task(self._forget_the_old())
                tasks.create_task(self.relay.run())
                tasks.create_task(self._end_when_lost())
        except* LeadershipLost as group:
            raise group.exceptions[0] from None
        finally:
            for subscription in self._subscriptions:
                await subscription.unsubscribe()
            await self.rounds.sender.close()
            await self.submissions.shared.close()

    async def _subscribe(self) -> None:
        subscribe, submissions = self.bus.subscribe, self.submissions
        self._subscriptions += [
            await subscribe(
                REQUEST_SUBMIT, None, submissions.submit, concurrency=SUBMIT_CONCURRENCY
            ),
            await subscribe(REQUESTS_WAITING, None, submissions.list_waiting),
            await subscribe(
                REQUEST_CANCEL, None, submissions.cancel, concurrency=SUBMIT_CONCURRENCY
            ),
            await subscribe(
                *(NODE_AGENT_HEARTBEAT, None, self._hear_agent),
                on_malformed=self._hear_malformed_agent,
                hold=self.hold,
            ),
            await subscribe(
                *(NODE_FETCHER_HEARTBEAT, None, self._hear_fetcher),
                on_malformed=self._hear_malformed_fetcher,
                hold=self.hold,
            ),
            await subscribe(GATEWAY_HEARTBEAT, None, self._hear_gateway),
            await subscribe(REQUESTS_ENDED, None, self._hear_ends),
            await subscribe(IMPORT_PROGRESS, None, self._hear_import),
            await subscribe(MODELS_CHANGED, None, self._hear_models),
            await subscribe(ROUTES_LIST, None, self.rounds.list_routes),
        ]

    async def _hear_agent(self, message: AgentHeartbeat) -> None:
        news = self.log.accept_agent(message, self.hold.arrived_s())
        self._wake_for_node(message.node_id, news)

    async def _hear_fetcher(self, message: FetcherHeartbeat) -> None:
        known = self.log.fetchers.of(message.node_id)
        if known is None or known.heartbeat.host_cache.version != message.host_cache.version:
            self.changes.nodes.add(message.node_id)  # written by the next round, before it plans
        news = self.log.accept_fetcher(message, self.hold.arrived_s())
        self._wake_for_node(message.node_id, news)

    def _hear_malformed_agent(self, node_id: str, complaint: str) -> None:
        self.log.invalid.note(NodeProcess(node_id, "agent"), complaint)

    def _hear_malformed_fetcher(self, node_id: str, complaint: str) -> None:
        self.log.invalid.note(NodeProcess(node_id, "fetcher"), complaint)

    def _wake_for_node(self, node_id: str, news: News | None) -> None:
        if news is not None:
            self.changes.hear(node_id, news)
            self.wake.set()

    async def _hear_gateway(self, message: GatewayHeartbeat) -> None:
        """Whoever waited for another one's next token need not wait for the next round."""
        progressed = self.log.accept_gateway(message, self.clock.monotonic_s())
        if progressed:
            self.changes.requests.update(progressed)
            self.wake.set()

    async def _hear_ends(self, message: RequestsEnded) -> None:
        """Slots are free: whoever is queued need not wait for the next round."""
        self.submissions.shared.queued.leave(message.request_ids)
        self.changes.requests.update(message.request_ids)
        self.wake.set()

    async def _hear_import(self, message: ImportProgressed) -> None:
        # Its words may quote a file: they lose what no column holds, and the import still ends.
        message = message.model_copy(update={"cause": storable(message.cause)})
        invalid = invalid_field(message)
        if invalid is not None:
            logger.error("a report of import %s is dropped: %s", message.import_id, invalid)
        elif self.imports.hear(message):
            self._import_wake.set()

    async def _hear_models(self, message: ModelsChanged) -> None:
        """Registered, changed or deleted: imports and endpoints follow the rows."""
        for model_id in message.model_ids:
            self.imports.traces.remember(model_id, telemetry.current_traceparent())
        self.changes.models.update(message.model_ids)
        self._import_wake.set()
        self.wake.set()

    async def _reconcile(self) -> float:
        """Rounds until nothing is left to decide; how long the last one took.

        While Postgres takes no writes, rounds pause and leadership is kept: the lock needs none,
        and nobody else could lead. A process that is told so by Postgres is in order."""
        took_s = 0.0
        try:
            for _ in range(MAX_ROUNDS):
                began_s = self.clock.monotonic_s()
                await self.hold.release()
                is_unfinished = await self.rounds.run_round()
                self.health.beat()
                took_s = self.clock.monotonic_s() - began_s
                if not is_unfinished:
                    break
        except DatabaseUnavailable as exc:
            if exc.sqlstate is not None:
                self.health.beat()
            raise
        await self.hold.release()
        return took_s

    async def _import(self) -> None:
        await self.imports.work()
        self.relay.wake()

    async def _compare_host_caches(self) -> None:
        await self._repeat(self.comparison.work, asyncio.Event(), COMPARE_INTERVAL_S)

    async def _forget_the_old(self) -> None:
        async def work() -> None:
            await self.retention.work()
            await self.node_retention.work()

        await self._repeat(work, asyncio.Event(), self.retention_interval_s)

    async def _repeat(
        self,
        work: Callable[[], Awaitable[float | None]],
        wake: asyncio.Event,
        interval_s: float | None = None,
        hurry: asyncio.Event | None = None,
    ) -> None:
        """On every wake-up and each interval; a failure is tried again with the next one. `work`
        says how long the last piece of it took, if it had several."""
        interval_s = self.interval_s if interval_s is None else interval_s
        hurry = asyncio.Event() if hurry is None else hurry
        while True:
            # Not wait_for: before Python 3.12 it may swallow a cancellation that meets the wake-up.
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await wake.wait()
            wake.clear()
            began_s = self.clock.monotonic_s()
            try:
                took_s = await work()
                await _pause(took_s or self.clock.monotonic_s() - began_s, hurry)
            except LeadershipLost:
                raise
            except DatabaseUnavailable as exc:
                logger.warning("waiting for Postgres: %s", exc)
                await asyncio.sleep(self.interval_s)
            except Exception:
                # A bug in one decision must not end the others' service; health tells if it stays.
                logger.exception("a round failed and is repeated")
                await asyncio.sleep(self.interval_s)

    async def _end_when_lost(self) -> None:
        fenced = self.submissions.fenced
        await fenced.lost.wait()
        raise LeadershipLost(fenced.epoch, "a newer leader exists")


async def _pause(took_s: float, hurry: asyncio.Event) -> None:
    """Wake-ups come in swarms: the next piece of work answers all that come meanwhile. But the
    stages of a start wait to hear of each other, so the pause is short beside the work, and whoever
    asks for a model cuts it short; after long work only once others had the event loop."""
    pause_s = min(PAUSE_SHARE * took_s, MAX_PAUSE_S)
    if pause_s > MIN_PAUSE_S:
        await asyncio.sleep(MIN_PAUSE_S)
    with suppress(TimeoutError):
        async with asyncio.timeout(max(MIN_PAUSE_S, pause_s - MIN_PAUSE_S)):
            await hurry.wait()
    hurry.clear()
