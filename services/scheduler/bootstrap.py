"""Builds the scheduler from its settings and runs it: a standby first, then the leader."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager

from libs.common.bus.bus import Bus, NatsBus
from libs.common.bus.message_hold import MessageHold
from libs.common.bus.subjects import Service
from libs.common.bus.workqueue import NatsWorkQueue, WorkQueue
from libs.common.cancellation import cancel_all
from libs.common.clock import Clock, SystemClock
from libs.common.errors import BusError, DatabaseUnavailable, SettingsError
from libs.common.observability.telemetry import configure_logging, configure_tracing
from libs.common.process.garbage_collection import full_collections_when_quiet
from libs.common.records.database import Database
from libs.common.records.migrate import migrate
from libs.common.records.outbox import OutboxRelay
from libs.common.settings import DatabaseSettings
from libs.common.startmode import StartMode
from services.scheduler.controller import Controller
from services.scheduler.errors import LeadershipLost
from services.scheduler.health import Health
from services.scheduler.intake.admission import Admission, QueueLimits
from services.scheduler.intake.feasibility_cache import FeasibilityCache
from services.scheduler.intake.import_watch import ImportWatch
from services.scheduler.intake.imports import Imports
from services.scheduler.intake.queue_positions import QueuePositions
from services.scheduler.intake.repeat_batcher import RepeatBatcher
from services.scheduler.intake.shared_transactions import SharedTransactions
from services.scheduler.intake.submissions import Submissions
from services.scheduler.leadership.leadership import Candidate, Leadership
from services.scheduler.leadership.lock_holder import session_name
from services.scheduler.metrics.metrics import SchedulerMetrics
from services.scheduler.metrics.server import open_server
from services.scheduler.node_retention import NodeRetention
from services.scheduler.observation.heartbeat_log import HeartbeatLog
from services.scheduler.observation.heartbeat_records import HeartbeatRecords
from services.scheduler.observation.host_cache_comparison import HostCacheComparison
from services.scheduler.observation.host_cache_records import HostCacheRecords
from services.scheduler.observation.liveness import LivenessLog
from services.scheduler.observation.measuring.recorder import MeasurementRecorder
from services.scheduler.observation.queue_speed import QueueSpeed
from services.scheduler.observation.queued_requests import QueuedRequests
from services.scheduler.observation.timeline import Timeline
from services.scheduler.observation.trace_contexts import TraceContexts
from services.scheduler.retention import Retention
from services.scheduler.rounds.apply import Applier
from services.scheduler.rounds.change_log import ChangeLog
from services.scheduler.rounds.desired_sender import DesiredSender
from services.scheduler.rounds.desired_versions import DesiredVersions
from services.scheduler.rounds.loop import RoundLoop
from services.scheduler.rounds.progress import ProgressReporter
from services.scheduler.rounds.reader import SnapshotReader
from services.scheduler.rounds.reading.summary_cache import SummaryCache
from services.scheduler.rounds.route_publisher import RoutePublisher
from services.scheduler.settings import SchedulerSettings, Timing
from services.scheduler.store.fenced_transactions import FencedTransactions

logger = logging.getLogger(__name__)

EXIT_STOPPED = 0
EXIT_PATIENCE_S = 3.0
STOP_TIMEOUT_S = 10.0
EXIT_LEADERSHIP_LOST = 75  # "try again": whoever watches this process starts it as a standby


def build_controller(
    database: Database,
    epoch: int,
    bus: Bus,
    workqueue: WorkQueue,
    clock: Clock,
    timing: Timing,
    health: Health,
    mode: StartMode = StartMode.HYDRA,
    metrics: SchedulerMetrics | None = None,
) -> Controller:
    """Everything one epoch needs; nothing of it is shared with another epoch."""
    fenced, changes, traces = FencedTransactions(database, epoch), ChangeLog(), TraceContexts()
    log = HeartbeatLog(LivenessLog(clock.monotonic_s(), timing.longest_gap_s))
    timeline, summaries = Timeline(), SummaryCache(mode.max_stages)
    wake, hurry, hold = asyncio.Event(), asyncio.Event(), MessageHold(clock)

    def wake_now() -> None:
        wake.set()
        hurry.set()

    sender = DesiredSender(bus, log, timeline, clock, timing.desired_timeout_s)
    queue_speed, queued, host_caches = QueueSpeed(), QueuedRequests(), HostCacheRecords()
    rounds = RoundLoop(
        fenced=fenced,
        bus=bus,
        clock=clock,
        log=log,
        changes=changes,
        reader=SnapshotReader(timing, mode, summaries),
        records=HeartbeatRecords(timing, host_caches),
        applier=Applier(traces),
        timeline=timeline,
        sender=sender,
        versions=DesiredVersions(sender, epoch),
        routes=RoutePublisher(epoch, timing.routes_interval_s),
        progress=ProgressReporter(timing.progress_interval_s),
        queue_speed=queue_speed,
        queued=queued,
        sweep_interval_s=timing.reconcile_interval_s,
        hold=hold,
        measuring=MeasurementRecorder(metrics or SchedulerMetrics()),
    )
    admission = Admission(
        summaries,
        log,
        FeasibilityCache(log, clock, timing.reconcile_interval_s, lambda: rounds.snapshot),
        queue_speed,
        clock,
        QueueLimits(timing.max_queued_requests, timing.tenant_shares),
        timing.queue_retry_after_s,
        timing.acquaintance_s,
    )
    return Controller(
        bus=bus,
        clock=clock,
        log=log,
        changes=changes,
        submissions=Submissions(
            fenced,
            SharedTransactions(fenced, queued),
            admission,
            RepeatBatcher(fenced),
            QueuePositions(lambda: rounds.snapshot),
            changes,
            traces,
            clock,
            wake_now,
        ),
        rounds=rounds,
        imports=Imports(
            fenced,
            workqueue,
            clock,
            timing.import_silence_s,
            ImportWatch(log.liveness, timing.import_lost_s),
        ),
        comparison=HostCacheComparison(
            *(bus, database, fenced, log, host_caches, clock), changes.note_host_caches
        ),
        retention=Retention(fenced, timing.retention_s),
        node_retention=NodeRetention(rounds, timing.node_retention_s),
        relay=OutboxRelay(database, bus, Service.SCHEDULER),
        health=health,
        wake=wake,
        hurry=hurry,
        hold=hold,
        interval_s=timing.reconcile_interval_s,
        retention_interval_s=timing.retention_interval_s,
    )


async def run(settings: SchedulerSettings) -> int:
    """Until SIGTERM or SIGINT, or until leadership is in doubt; the exit code."""
    configure_logging("scheduler")
    configure_tracing("scheduler", settings.scheduler_id)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    clock, metrics = SystemClock(), SchedulerMetrics()
    health = Health(settings.health_file, clock)
    beating = asyncio.create_task(health.run())
    try:
        async with _telling(settings, metrics):
            await _until(stop, _serve(settings, clock, health, metrics))
    except LeadershipLost as exc:
        logger.error("%s", exc)
        _exit_soon(EXIT_LEADERSHIP_LOST)
        return EXIT_LEADERSHIP_LOST
    finally:
        beating.cancel()
    return EXIT_STOPPED


def _exit_soon(code: int) -> None:
    """Whatever still hangs, e.g. on a dead connection: who does not lead must not linger."""
    timer = threading.Timer(EXIT_PATIENCE_S, os._exit, (code,))
    timer.daemon = True
    timer.start()


async def _until(stop: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Cancel the work when stop is set; its own errors are raised."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        await cancel_all({working}, STOP_TIMEOUT_S)
    if not working.done():
        _exit_soon(EXIT_STOPPED)
    elif not working.cancelled():
        working.result()


@asynccontextmanager
async def _telling(settings: SchedulerSettings, metrics: SchedulerMetrics) -> AsyncIterator[None]:
    """Also as a standby, whose figures are empty."""
    if settings.metrics_port is None:
        yield
        return
    host, port = settings.metrics_host, settings.metrics_port
    try:
        server = await open_server(host, port, metrics.render)
    except OSError as exc:
        expected = f"a port at which this process may listen on {host} ({exc.strerror})"
        raise SettingsError("HYDRA_SCHEDULER_METRICS_PORT", str(port), expected) from exc
    try:
        yield
    finally:
        server.close()


async def _serve(
    settings: SchedulerSettings, clock: Clock, health: Health, metrics: SchedulerMetrics
) -> None:
    await _migrate(settings.database, settings.timing.lease_check_s, health)
    async with AsyncExitStack() as stack:
        bus = await _connect(settings, health)  # before leading, so that a takeover is quick
        stack.push_async_callback(bus.close)
        leadership = await _lead(settings, health)
        stack.push_async_callback(leadership.release)
        database = _open_database(settings)
        stack.push_async_callback(database.close)
        workqueue = NatsWorkQueue(bus.client)
        controller = build_controller(
            *(database, leadership.epoch, bus, workqueue, clock, settings.timing, health),
            mode=settings.start_mode,
            metrics=metrics,
        )
        quiet = full_collections_when_quiet(lambda: controller.rounds.num_busy)
        await stack.enter_async_context(quiet)
        await _watched(controller, leadership, settings.timing.lease_check_s)


def _open_database(settings: SchedulerSettings) -> Database:
    """With sessions that end by themselves when this process hangs in the middle of a transaction:
    the rows that it holds are others' rows too."""
    parameters = {
        "application_name": session_name(settings.scheduler_id),
        "idle_in_transaction_session_timeout": f"{settings.timing.leader_silence_s * 1000:.0f}ms",
    }
    return Database.open(settings.database, parameters=parameters)


async def _watched(controller: Controller, leadership: Leadership, interval_s: float) -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(controller.run())
            tasks.create_task(leadership.watch(interval_s))
    except* LeadershipLost as group:
        raise group.exceptions[0] from None


async def _migrate(settings: DatabaseSettings, retry_s: float, health: Health) -> None:
    while True:
        try:
            return await migrate(settings)
        except DatabaseUnavailable as exc:
            logger.warning("migrations wait: %s", exc)
            health.beat()
            await asyncio.sleep(retry_s)


async def _connect(settings: SchedulerSettings, health: Health) -> NatsBus:
    while True:
        try:
            return await NatsBus.connect(
                settings.bus, Service.SCHEDULER, name=settings.scheduler_id
            )
        except BusError as exc:
            logger.warning("the bus is away: %s", exc)
            health.beat()
            await asyncio.sleep(settings.timing.lease_check_s)


async def _lead(settings: SchedulerSettings, health: Health) -> Leadership:
    """Wait as a standby until leadership is free."""
    silence_s = settings.timing.leader_silence_s
    candidate = Candidate(settings.database, settings.scheduler_id, silence_s)
    try:
        while (leadership := await candidate.try_to_lead()) is None:
            health.beat()
            await asyncio.sleep(settings.timing.lease_check_s)
        return leadership
    finally:
        candidate.close()
