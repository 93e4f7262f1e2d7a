"""One worker process as its agent sees it: from the launch, through its frames, to its end."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from libs.common.bus.messages import WorkerObserved, WorkerSpec
from libs.common.cause_words import words
from libs.common.causes import Cause, CauseKind
from libs.common.clock import Clock
from libs.common.states import MemberRole, WorkerState
from services.worker.agent.devices.device import Device
from services.worker.agent.engine_meter import EngineMeter
from services.worker.agent.processes.device_peak import DevicePeak
from services.worker.agent.processes.frame_connection import FrameConnection
from services.worker.agent.processes.frame_outbox import FrameOutbox
from services.worker.agent.processes.launcher import NOTHING, Launcher, WorkerHandle
from services.worker.agent.processes.start_steps import StartStepLog
from services.worker.agent.processes.target_follower import TargetFollower
from services.worker.agent.processes.watchdog import Watchdog, WatchdogLimits
from services.worker.agent.processes.worker_load import WorkerLoad
from services.worker.agent.processes.worker_process import Exit
from services.worker.agent.requests.bridge import Bridge
from services.worker.agent.translate import step_message
from services.worker.errors import FrameError, LaunchError
from services.worker.frames.consolidation import ConsolidationChanged, SwitchMeasured
from services.worker.frames.frames import (
    Ready,
    Registered,
    StartWorker,
    StatsChanged,
    StepTaken,
    ToAgent,
    TokensProduced,
    ToWorker,
    WorkerFailed,
)

logger = logging.getLogger(__name__)

LAST_FRAMES_S = 1.0  # for what a dead process left in its socket


class SupervisedWorker:
    """`changed` is called whenever `observed` has become different in what others wait for, and
    `progressed` at each step of the start, which is only told to people."""

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        clock: Clock,
        changed: Callable[[], None],
        progressed: Callable[[], None],
        limits: WatchdogLimits,
        meter: EngineMeter,
    ) -> None:
        self.spec = spec
        self.bridge: Bridge | None = None  # of an entry worker only
        self._is_unreachable = False  # it is to serve by now, and has none yet
        self._clock, self._meter = clock, meter
        self._changed, self._progressed = changed, progressed
        self._device_peak = DevicePeak(meter)
        self._watchdog = Watchdog(limits, spec.start_timeout_ms / 1000)
        self._state = WorkerState.LAUNCHING
        self._cause: Cause | None = None
        self._registered = Registered(None, None)
        self._load = WorkerLoad()
        self._steps = StartStepLog(spec.worker_id, spec.traceparent, clock)
        self._handle: WorkerHandle | None = None
        self._is_stop_wanted = False
        self._ended = asyncio.Event()
        self._outbox = FrameOutbox()
        self._outbox.connect_neighbours(spec)
        self._target = TargetFollower(spec.generation, self.send, clock)

    # ---------------------------------------------------------------- its life

    async def run(
        self,
        launcher: Launcher,
        device: Device,
        start: StartWorker,
        environment: Mapping[str, str] = NOTHING,
    ) -> None:
        """Launch it and follow it until its end, which is then in `observed`."""
        try:
            await self._live(launcher, device, start, environment)
        except LaunchError as exc:
            await self._finish(Cause.of(CauseKind.LAUNCH_FAILED, detail=str(exc)))
        except Exception as exc:  # a bug of ours must not leave a process that nobody watches
            logger.exception("%s: following it failed", self.spec.worker_id)
            try:
                if self._handle is not None:
                    await self._handle.stop()
            finally:
                await self._finish(Cause.of(CauseKind.AGENT_FAILED, detail=repr(exc)))
        finally:
            self._ended.set()

    async def _live(
        self,
        launcher: Launcher,
        device: Device,
        start: StartWorker,
        environment: Mapping[str, str],
    ) -> None:
        self._steps.begin("spawn")
        self._handle = await launcher.launch(self.spec.worker_id, device, environment)
        logger.info(
            "%s launched as process %s for %s",
            *(self.spec.worker_id, self._handle.pid, self.spec.endpoint_id),
        )
        self._changed()
        connection = await FrameConnection.open(self._handle.socket)
        self._outbox.open(connection, start)
        if self._is_stop_wanted:  # it was undesired while it was being launched
            await self._handle.stop()
        await self._follow(self._handle, connection)

    async def attach(self, bridge: Bridge) -> None:
        """Of an entry worker, before `run`; of one that was another stage once it is to serve."""
        self.bridge, self._is_unreachable = bridge, False
        if self.is_finished:
            await bridge.worker_gone()
        elif self._state is WorkerState.READY:
            bridge.mark_serving()
            self._changed()

    async def stop(self) -> None:
        """End it; returns when its end is recorded: STOPPED, unless it had failed before."""
        self._is_stop_wanted = True
        if self._handle is not None:
            await self._handle.stop()
        await self._ended.wait()

    def send(self, frame: ToWorker) -> None:
        self._outbox.send(frame)

    def update(self, spec: WorkerSpec) -> None:
        """A newer desired state: neighbours, draining, a target, the generation it has reached."""
        if spec == self.spec:
            return
        has_become_entry = (spec.role, self.spec.role) == (MemberRole.ENTRY, MemberRole.FOLLOWER)
        self._is_unreachable = self._is_unreachable or has_become_entry
        self.spec = spec
        self._outbox.connect_neighbours(spec)
        if self.bridge is not None:
            self.bridge.spec = spec
        if self._state is WorkerState.READY:
            self._target.follow(spec.target)
        self._changed()

    async def _follow(self, handle: WorkerHandle, connection: FrameConnection) -> None:
        reading = asyncio.create_task(self._read(connection))
        watching = asyncio.create_task(self._watch(handle))
        try:
            ends = {reading, watching, exiting := asyncio.create_task(handle.wait())}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in (reading, watching):
                if task.done():
                    task.result()  # a bug of ours: nobody reads, or watches, from here on
            if not exiting.done():  # it closed its socket, or sent nonsense: of no use any more
                await self._end_unusable(handle, exiting)
            ended = await exiting
            await asyncio.wait({reading}, timeout=LAST_FRAMES_S)
        finally:
            reading.cancel()
            watching.cancel()
            await connection.close()
        await self._finish(ended.cause, ended)

    async def _end_unusable(self, handle: WorkerHandle, exiting: "asyncio.Task[Exit]") -> None:
        await asyncio.wait({exiting}, timeout=LAST_FRAMES_S)
        if not exiting.done():
            self._cause = self._cause or Cause(CauseKind.CONNECTION_CLOSED)
            await handle.stop()

    async def _finish(self, cause: Cause, ended: Exit | None = None) -> None:
        is_asked = self._is_stop_wanted and self._cause is None
        self._state = WorkerState.STOPPED if is_asked else WorkerState.FAILED
        self._cause = None if is_asked else self._cause or cause
        self._load = WorkerLoad()
        self._steps.close(said := None if self._cause is None else words(self._cause))
        self._device_peak.end(self.spec)
        if self.bridge is not None:
            await self.bridge.worker_gone()
        level = logging.INFO if is_asked else logging.ERROR
        code = "" if ended is None else f" (code {ended.code})"
        logger.log(level, "%s ended%s: %s", self.spec.worker_id, code, said or "stopped")
        self._changed()

    async def _watch(self, handle: WorkerHandle) -> None:
        """A process that hangs holds memory and requests, and will not end by itself."""
        trouble = await self._watchdog.trouble(lambda: self.is_starting)
        step = ", ".join(self._steps.running) or None
        own_stage = self.spec.stage_index if self.spec.num_stages > 1 else None
        self._cause = self._cause or trouble.with_facts(own_stage=own_stage, step=step)
        await handle.stop()

    # -------------------------------------------------------------- its frames

    async def _read(self, connection: FrameConnection) -> None:
        try:
            async for frame in connection.frames():
                self._watchdog.note(frame)
                self._take(frame)
        except FrameError as exc:
            broken = Cause.of(CauseKind.PROTOCOL_BROKEN, by="worker process", detail=str(exc))
            self._cause = self._cause or broken

    def _take(self, frame: ToAgent) -> None:
        match frame:
            case TokensProduced():
                self._take_tokens(frame)
                return
            case StatsChanged():
                self._load = WorkerLoad.of(frame)  # each second and more; no reason for a heartbeat
                return
            case StepTaken():
                self._take_step(frame)
                self._progressed()
                return
            case SwitchMeasured():
                self._target.take_switch(frame)
                self._progressed()
                return
            case Registered():
                self._registered = frame
                self._state = WorkerState.REGISTERED
            case Ready():
                self._become_ready()
            case ConsolidationChanged():
                self._target.take(frame)
            case WorkerFailed():
                self._cause = self._cause or frame.cause
        self._changed()

    def _take_step(self, frame: StepTaken) -> None:
        self._steps.take(step_message(frame))
        has_imported = frame.name == "import" and frame.ended_at_s is not None
        if has_imported and (launch_s := self._steps.launch_s) is not None:
            self._meter.note_launch(self.spec.engine, launch_s)

    def _become_ready(self) -> None:
        self._state = WorkerState.READY
        self._steps.note_ready()
        if self.bridge is not None:
            self.bridge.mark_serving()
        self._target.follow(self.spec.target)
        logger.info("%s is ready", self.spec.worker_id)

    def _take_tokens(self, frame: TokensProduced) -> None:
        if self.bridge is None:
            logger.error("%s: tokens from a stage that serves nobody", self.spec.worker_id)
            return
        self.bridge.take_tokens(frame)
        if frame.ids and self._steps.note_first_token():
            self._progressed()

    def note_device_bytes(self, used_bytes: int | None) -> None:
        """All that its process takes of its GPU now; counts once it is ready and has computed, and
        until it loads more: that is not planned apart from its own."""
        is_whole = self._state is WorkerState.READY and self._load.step_us > 0
        is_measurable = is_whole and self.spec.worker_bytes and not self._target.was_told
        if used_bytes is not None and is_measurable:
            self._device_peak.note(self.spec, used_bytes)

    # ----------------------------------------------------------- what one sees

    @property
    def pid(self) -> int | None:
        return None if self._handle is None else self._handle.pid

    @property
    def is_finished(self) -> bool:
        return self._state.is_finished

    @property
    def is_starting(self) -> bool:
        return self._state in (WorkerState.LAUNCHING, WorkerState.REGISTERED)

    @property
    def is_serving(self) -> bool:
        return self._num_unfinished > 0

    @property
    def _num_unfinished(self) -> int:
        return self.bridge.num_unfinished if self.bridge is not None else 0

    def observed(self) -> WorkerObserved:
        bridge, num_unfinished = self.bridge, self._num_unfinished
        num_running = min(self._load.num_running, num_unfinished)
        return WorkerObserved(
            worker_id=self.spec.worker_id,
            endpoint_id=self.spec.endpoint_id,
            state=self._visible_state(),
            pid=self.pid,
            cause=self._cause,
            address=self._registered.address,
            public_key=self._registered.public_key,
            num_running=num_running,
            num_waiting=num_unfinished - num_running,
            kv_used_bytes=max(0, self._load.kv_used_bytes),
            kv_capacity_bytes=max(0, self._load.kv_capacity_bytes),
            step_us=max(0, self._load.step_us),
            speed=self._load.speed,
            idle_ms=bridge.idle_ms if bridge is not None else 0,
            progress=max(0, self._load.progress),
            steps=self._steps.told(),
            compute_share=self._load.compute_share,
            compute_demand=self._load.compute_demand,
            generation=self._target.generation,
            consolidation=self._target.observed,
            switch=self._target.switch,
        )

    def _visible_state(self) -> WorkerState:
        """Who is to serve, and was another stage, is not ready before requests reach it."""
        if self.spec.is_draining and not self._state.is_finished:
            return WorkerState.DRAINING
        if self._is_unreachable and self._state is WorkerState.READY:
            return WorkerState.REGISTERED
        return self._state
