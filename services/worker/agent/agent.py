"""The node's agent: follows the desired state, runs the workers it names, says what it observes."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from itertools import chain
from pathlib import Path

from libs.common.bus.bus import Bus, Subscription
from libs.common.bus.messages import (
    AgentHeartbeat,
    DesiredReply,
    NodeDesired,
    UnacknowledgedEnd,
    WorkerObserved,
    WorkerSpec,
)
from libs.common.bus.subjects import NODE_DESIRED_AGENT
from libs.common.cancellation import cancel_all
from libs.common.causes import Cause, CauseKind
from libs.common.clock import Clock
from libs.common.states import FetchClass, MemberRole, WorkerState
from services.worker.agent.desired import (
    DesiredLog,
    MissingWorkers,
    Retired,
    changes,
    fetch_class_of,
)
from services.worker.agent.devices.device import Device
from services.worker.agent.devices.monitor import measure_regularly
from services.worker.agent.engine_meter import EngineMeter
from services.worker.agent.heartbeat_trigger import HeartbeatTrigger
from services.worker.agent.processes.launcher import Launcher
from services.worker.agent.processes.supervised import SupervisedWorker
from services.worker.agent.processes.watchdog import WATCHDOG_LIMITS, WatchdogLimits
from services.worker.agent.requests.bridge import Bridge
from services.worker.agent.requests.prompt_assembler import PromptMemory
from services.worker.agent.settings import MISSING_WORKER_S, DeviceKind
from services.worker.agent.shares.node_compute import NodeCompute
from services.worker.agent.translate import start_frame
from services.worker.frames.dataplane import DataPlaneOptions

logger = logging.getLogger(__name__)

EXPIRE_INTERVAL_S = 0.2
MAX_UNACKNOWLEDGED = 1024  # ends in one heartbeat, some 100 KB
DEFAULT_DATA_PLANE = DataPlaneOptions()


class Agent:
    """`heartbeat_trigger` is set whenever the next heartbeat would say something new."""

    def __init__(
        self,
        *,
        node_id: str,
        boot_id: str,
        devices: tuple[Device, ...],
        fetcher_socket: Path,
        launcher: Launcher,
        bus: Bus,
        clock: Clock,
        data_plane: DataPlaneOptions = DEFAULT_DATA_PLANE,
        limits: WatchdogLimits = WATCHDOG_LIMITS,
        missing_worker_s: float = MISSING_WORKER_S,
        compute: NodeCompute | None = None,
    ) -> None:
        self.heartbeat_trigger = HeartbeatTrigger()
        self._node_id, self._boot_id = node_id, boot_id
        self._devices = devices
        self._fetcher_socket, self._data_plane = fetcher_socket, data_plane
        self._launcher, self._bus, self._clock = launcher, bus, clock
        self._limits, self._compute = limits, compute or NodeCompute(devices)
        self._log = DesiredLog(boot_id)
        self._retired = Retired()
        self._missing = MissingWorkers(missing_worker_s)
        self._workers: dict[str, SupervisedWorker] = {}
        self._refused: dict[str, WorkerObserved] = {}  # desired, but this node cannot run them
        self._parted: dict[str, WorkerObserved] = {}  # ended as asked, but not told so yet
        self._bridges: set[Bridge] = set()  # outlive their workers until every end is acknowledged
        self._tasks: set[asyncio.Task[None]] = set()
        self._meter = EngineMeter()
        self._prompt_memory = PromptMemory()
        self._sequence = 0
        self._subscription: Subscription | None = None

    # ------------------------------------------------------------ its lifetime

    async def open(self) -> None:
        """Listen to the scheduler. Raises BusError."""
        self._subscription = await self._bus.subscribe(
            NODE_DESIRED_AGENT, self._node_id, self.follow
        )
        self._spawn(self._expire_regularly(), "expire")
        for device in self._devices:
            if device.kind is DeviceKind.CUDA:
                self._spawn(measure_regularly(device, self.note_device_bytes), "measure")

    async def close(self) -> None:
        """Take no more orders, stop every worker, stop listening for requests; in bounded time."""
        try:
            async with asyncio.timeout(self._limits.end_s):
                if self._subscription is not None:
                    await self._subscription.unsubscribe()
                await asyncio.gather(*(worker.stop() for worker in self._workers.values()))
        except TimeoutError:
            left = [w.spec.worker_id for w in self._workers.values() if not w.is_finished]
            logger.error("left behind, killed but not ended: %s", ", ".join(left))
        await cancel_all(self._tasks)
        await asyncio.gather(*(bridge.close() for bridge in self._bridges))

    # ------------------------------------------------------- the desired state

    async def follow(self, desired: NodeDesired) -> DesiredReply:
        """Accept and act. The reply waits for no process, but entry workers listen before it."""
        reply = self._log.accept(desired)
        if reply.refused is not None:
            logger.warning("desired version %d refused: %s", desired.version, reply.refused)
            return reply
        due = changes(desired, {**self._workers, **self._refused}, self._retired)
        for worker_id in due.remove:
            self._remove(worker_id)
        self._missing.note(due.missing, self._clock.monotonic_s())
        for spec in due.update:
            await self._update(spec)
        for spec in due.launch:
            await self._launch(spec, fetch_class_of(spec, desired))
        self.heartbeat_trigger.note()
        return reply

    async def _launch(self, spec: WorkerSpec, fetch_class: FetchClass) -> None:
        if spec.device_index >= len(self._devices):
            detail = f"this node has no device {spec.device_index}, it has {len(self._devices)}"
            cause = Cause.of(CauseKind.LAUNCH_FAILED, detail=detail)
            self._refused[spec.worker_id] = _failed(spec, cause)
            return
        device = self._devices[spec.device_index]
        worker = SupervisedWorker(
            spec,
            clock=self._clock,
            changed=self.heartbeat_trigger.note,
            progressed=self.heartbeat_trigger.note_load,
            limits=self._limits,
            meter=self._meter,
        )
        if spec.role is MemberRole.ENTRY:
            await self._open_bridge(worker)
        environment = self._compute.environment(spec, self._workers.values())
        self._workers[spec.worker_id] = worker
        start = start_frame(
            *(spec, device, self._fetcher_socket, self._data_plane, fetch_class),
            max_threads=self._compute.max_threads(spec),
        )
        running = worker.run(self._launcher, device, start, environment)
        self._spawn(running, f"run-{spec.worker_id}")

    async def _open_bridge(self, worker: SupervisedWorker) -> None:
        bridge = Bridge(
            worker.spec,
            bus=self._bus,
            clock=self._clock,
            send=worker.send,
            load_changed=self.heartbeat_trigger.note_load,
            slot_freed=self.heartbeat_trigger.note,
            prompt_memory=self._prompt_memory,
        )
        await bridge.open()
        await worker.attach(bridge)
        self._bridges.add(bridge)

    async def _update(self, spec: WorkerSpec) -> None:
        worker = self._workers.get(spec.worker_id)
        if worker is None:
            return
        worker.update(spec)
        has_become_entry = spec.role is MemberRole.ENTRY and worker.bridge is None
        if has_become_entry and not worker.is_finished:
            await self._open_bridge(worker)

    def _remove(self, worker_id: str) -> None:
        self._retired.add(worker_id)
        self._refused.pop(worker_id, None)
        worker = self._workers.get(worker_id)
        if worker is not None:
            self._spawn(self._stop(worker_id, worker), f"stop-{worker_id}")

    async def _stop(self, worker_id: str, worker: SupervisedWorker) -> None:
        await worker.stop()
        if self._workers.pop(worker_id, None) is not None:
            self._parted[worker_id] = worker.observed()
        self.heartbeat_trigger.note()

    # ------------------------------------------------------------ what it sees

    def heartbeat(self) -> AgentHeartbeat:
        """The next one of this boot."""
        self._sequence += 1
        return AgentHeartbeat(
            node_id=self._node_id,
            boot_id=self._boot_id,
            sequence=self._sequence,
            accepted_version=self._log.version,
            devices=tuple(device.observed for device in self._devices),
            num_standbys=self._launcher.num_standbys,
            engines=self._meter.observed(),
            workers=(
                *(worker.observed() for worker in self._workers.values()),
                *self._refused.values(),
                *self._parted.values(),
            ),
            unacknowledged=self._unacknowledged(),
        )

    def _unacknowledged(self) -> tuple[UnacknowledgedEnd, ...]:
        """Of more than a heartbeat holds the next ones in each, for they stay for a minute."""
        ends = tuple(chain.from_iterable(bridge.unacknowledged() for bridge in self._bridges))
        if len(ends) <= MAX_UNACKNOWLEDGED:
            return ends
        first = self._sequence * MAX_UNACKNOWLEDGED % len(ends)
        return (ends + ends)[first : first + MAX_UNACKNOWLEDGED]

    @property
    def is_quiet(self) -> bool:
        """No worker is starting: a core that is used for other things delays nobody."""
        return not any(worker.is_starting for worker in self._workers.values())

    @property
    def is_serving(self) -> bool:
        """A worker has requests whose end is not out. Later stages of a pipeline know of none."""
        return any(worker.is_serving for worker in self._workers.values())

    def was_sent(self, heartbeat: AgentHeartbeat) -> None:
        """Ended workers leave the list once it was told when their last steps ended."""
        told = [w for w in heartbeat.workers if self._parted.get(w.worker_id) == w]
        for worker in told:
            del self._parted[worker.worker_id]
            self.heartbeat_trigger.note()

    # ------------------------------------------------------------------ chores

    async def _expire_regularly(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_INTERVAL_S)
            try:
                await self.expire()
            except Exception:  # deadlines must be kept for ever, whatever one endpoint does
                logger.exception("a round of deadlines failed")

    def note_device_bytes(self, device_index: int, used_bytes: Mapping[int, int]) -> None:
        """What processes take of a device now, by process id."""
        for worker in self._workers.values():
            if worker.spec.device_index == device_index and worker.pid is not None:
                worker.note_device_bytes(used_bytes.get(worker.pid))

    async def expire(self) -> None:
        """End requests past their deadline, and workers missing for too long; close what has
        nothing left to say. Then workers get their shares of the processor."""
        for worker_id in self._missing.take_due(self._clock.monotonic_s()):
            logger.warning("worker %s is stopped: the scheduler does not know it", worker_id)
            self._remove(worker_id)
        for bridge in tuple(self._bridges):
            bridge.expire()
            if bridge.is_over:
                self._bridges.discard(bridge)
                await bridge.close()
        self._compute.apply(self._workers.values())

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the task %s failed", task.get_name(), exc_info=error)


def _failed(spec: WorkerSpec, cause: Cause) -> WorkerObserved:
    return WorkerObserved(
        worker_id=spec.worker_id,
        endpoint_id=spec.endpoint_id,
        state=WorkerState.FAILED,
        cause=cause,
    )
