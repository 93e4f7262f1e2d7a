"""What stands where a worker process would be, for the real agent."""

import asyncio
import logging
import signal
import socket

from benchmarks.controlplane.hollow.workers.frame_channel import FrameChannel
from benchmarks.controlplane.hollow.workers.worker import FAILED, HollowWorker, WorkerParts
from services.worker.agent.processes.worker_process import Exit
from services.worker.frames.frames import Origin

logger = logging.getLogger(__name__)


class HollowProcess:
    """Takes over both ends of its socketpair."""

    def __init__(
        self,
        pid: int,
        agent_end: socket.socket,
        worker_end: socket.socket,
        parts: WorkerParts,
        origin: Origin,
    ) -> None:
        self.pid, self.socket = pid, agent_end
        self._parts, self._origin = parts, origin
        self.exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live(worker_end), name=f"hollow-process-{pid}")

    async def wait(self) -> Exit:
        return await asyncio.shield(self.exit)

    async def stop(self) -> None:
        """As by SIGTERM, whose effect is the default one: there is no state to save."""
        if not self.exit.done():
            durations = self._parts.settings.start
            await asyncio.sleep(durations.stop.drawn_s(self._parts.chance))
        self.kill(signal.SIGTERM)
        await self.wait()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """It ends at once, and has ended by that signal."""
        if not self.exit.done():
            self._life.cancel()
            self.exit.set_result(Exit(-number))

    async def _live(self, worker_end: socket.socket) -> None:
        channel = await FrameChannel.open(worker_end, self._parts.settings.alive_interval_s)
        code = FAILED
        try:
            code = await self._run(channel)
        except Exception:  # a bug of the simulation: the agent shall see a crash, and people why
            logger.exception("a hollow worker failed")
        finally:
            channel.close()
            if not self.exit.done():
                self.exit.set_result(Exit(code))

    async def _run(self, channel: FrameChannel) -> int:
        durations, is_standby = self._parts.settings.start, self._origin is Origin.STANDBY
        begun = durations.standby if is_standby else durations.spawn
        await asyncio.sleep(begun.drawn_s(self._parts.chance))
        start = await channel.start_frame()
        if start is None:
            return 0
        return await HollowWorker(self._parts, channel, start, self._origin).run()
