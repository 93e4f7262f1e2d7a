"""A hollow worker: the steps of a start and what follows them, told in the real frames.

The order of the steps is that of `services/worker/runtime/worker_process.py`; each takes the time
that the settings say, and what a real one waits for, it waits for: the node's fetcher, its agent.
"""

import asyncio
import time
from dataclasses import dataclass
from random import Random

from benchmarks.controlplane.hollow.fetching.unit_waiter import UnitWaiter
from benchmarks.controlplane.hollow.settings import Duration, HollowSettings
from benchmarks.controlplane.hollow.workers.data_plane import DataPlane
from benchmarks.controlplane.hollow.workers.engine import HollowEngine
from benchmarks.controlplane.hollow.workers.frame_channel import FrameChannel
from benchmarks.controlplane.hollow.workers.ring_member import RingMember
from libs.common.causes import Cause
from libs.common.errors import HydraError
from libs.common.weights.manifest import total_size_bytes
from libs.common.weights.unitclient import WantedUnits
from services.fetcher.fetching.ports import ManifestSource
from services.worker.errors import FrameError, WeightsNotDelivered, WorkerError
from services.worker.frames.frames import (
    CancelGeneration,
    ConnectPeers,
    GenerateTokens,
    Origin,
    Ready,
    Registered,
    StartWorker,
    ToWorker,
    WorkerFailed,
)
from services.worker.runtime.failure_causes import cause_of
from services.worker.runtime.prefill_steps import FirstAnswer
from services.worker.runtime.start_steps import StartSteps

AGENT_GONE, FAILED = 0, 1  # exit codes, as of a real process


@dataclass(frozen=True)
class WorkerParts:
    """What the workers of a node share."""

    settings: HollowSettings
    units: UnitWaiter
    manifests: ManifestSource
    plane: DataPlane
    chance: Random


class HollowWorker:
    def __init__(
        self, parts: WorkerParts, channel: FrameChannel, start: StartWorker, origin: Origin
    ) -> None:
        self._parts, self._channel, self._start, self._origin = parts, channel, start, origin
        self._durations = parts.settings.start
        self._deadline_s = time.monotonic() + start.start_timeout_ms / 1000
        self._wanted = WantedUnits(start.manifest_digest, start.unit_digests)
        self._steps = StartSteps(channel.send)
        self._answer = FirstAnswer(self._steps)
        is_alone = start.num_stages == 1
        self._ring = None if is_alone else RingMember(parts.plane, start, self._answer)
        self._engine = HollowEngine(
            start,
            parts.settings.tokens,
            parts.chance,
            channel.send,
            self._answer,
            self._ring.begin_prefill if self._ring is not None else None,
        )
        self._early: list[ToWorker] | None = []  # frames of requests, until it begins to load
        self._connected = asyncio.Event()

    async def run(self) -> int:
        """Be the worker that the start frame describes; the exit code."""
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read())
                others = [group.create_task(work) for work in (self._live(), self._watch())]
                await reading
                for task in others:
                    task.cancel()
            return AGENT_GONE
        except* HydraError as errors:
            self._channel.send(WorkerFailed(_cause(_first(errors))))
        finally:
            self._engine.close()
            if self._ring is not None:
                self._ring.leave()
            self._parts.units.end_lease(self._start.worker_id)
        return FAILED

    async def _live(self) -> None:
        self._steps.ended("spawn", time.time(), self._origin)
        async with asyncio.TaskGroup() as group:
            mapped = group.create_task(self._map())
            await self._register()
            linked = group.create_task(self._link())
            await self._step("import", self._imports)
            with self._steps.step("build_engine"):
                await self._parts.manifests.load(self._start.manifest_digest)
                await self._pass(self._durations.build_engine)
            with self._steps.step("load"):
                self._take_early()
                await mapped
                await self._pass(self._durations.load)
            await linked
        self._channel.send(Ready())
        await self._engine.run()

    @property
    def _imports(self) -> Duration:
        durations = self._durations
        is_standby = self._origin is Origin.STANDBY
        return durations.standby_imports if is_standby else durations.imports

    async def _map(self) -> None:
        units, start = self._parts.units, self._start
        try:
            with self._steps.step("map_units"):
                await self._parts.manifests.load(start.manifest_digest)
                await units.until_mapped(self._wanted, self._deadline_s)
                units.lease(start.worker_id, self._wanted)
                await self._pass(self._durations.map_units)
            with self._steps.step("weights", await self._weights_detail()):
                await units.until_complete(self._wanted, self._deadline_s)
        except HydraError as exc:
            raise WeightsNotDelivered(str(exc)) from exc

    async def _weights_detail(self) -> str:
        loaded = await self._parts.manifests.load(self._start.manifest_digest)
        known = loaded.manifest.units_by_digest
        num_bytes = total_size_bytes(tuple(known[d] for d in self._start.unit_digests))
        return f"{len(self._start.unit_digests)} units, {num_bytes / 1e6:.1f} MB"

    async def _register(self) -> None:
        """Tell the agent where neighbours reach this stage."""
        if self._ring is None:
            self._channel.send(Registered(address=None, public_key=None))
            return
        await self._step("bind", self._durations.bind)
        self._channel.send(self._ring.registered)

    async def _link(self) -> None:
        """Meet the neighbours; a whole model has none."""
        if self._ring is None:
            return
        with self._steps.step("connect"):
            await self._connected.wait()
        with self._steps.step("linked"):
            await self._ring.meet()
            await self._pass(self._durations.link)

    async def _watch(self) -> None:
        if self._ring is not None:
            notice_s = self._durations.notice_loss.drawn_s(self._parts.chance)
            await self._ring.until_lost(notice_s)

    async def _step(self, name: str, duration: Duration) -> None:
        with self._steps.step(name):
            await self._pass(duration)

    async def _pass(self, duration: Duration) -> None:
        await asyncio.sleep(duration.drawn_s(self._parts.chance))

    # -------------------------------------------------------------- its frames

    async def _read(self) -> None:
        async for frame in self._channel.frames():
            if isinstance(frame, ConnectPeers):
                self._connect(frame)
            elif self._early is not None:
                self._early.append(frame)
            else:
                self._take(frame)

    def _connect(self, frame: ConnectPeers) -> None:
        if self._ring is None:
            raise FrameError(f"a {type(frame).__name__} for a worker that has no neighbours")
        self._ring.connect(frame)
        self._connected.set()

    def _take_early(self) -> None:
        early, self._early = self._early or [], None
        for frame in early:
            self._take(frame)

    def _take(self, frame: ToWorker) -> None:
        match frame:
            case GenerateTokens():
                self._engine.add(frame)
            case CancelGeneration(request_id, attempt):
                self._engine.cancel(request_id, attempt)
            case _:
                raise FrameError(f"a second {type(frame).__name__}")


def _cause(error: Exception) -> Cause:
    return cause_of(error if isinstance(error, WorkerError) else WorkerError(str(error)))


def _first(errors: BaseExceptionGroup[Exception]) -> Exception:
    """Those after it are mostly its echoes."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
