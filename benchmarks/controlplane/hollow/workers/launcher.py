"""Launches hollow workers for the real agent, from standbys while there are any."""

import asyncio
import itertools
import socket
from collections.abc import Mapping

from benchmarks.controlplane.hollow.workers.process import HollowProcess
from benchmarks.controlplane.hollow.workers.worker import WorkerParts
from services.worker.agent.devices.device import Device
from services.worker.agent.processes.launcher import NOTHING
from services.worker.errors import LaunchError
from services.worker.frames.frames import Origin

_pids = itertools.count(100_000)  # of nobody


class HollowLauncher:
    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts
        self.num_standbys = parts.settings.num_standbys
        self._processes: dict[str, HollowProcess] = {}  # by worker

    async def launch(
        self, worker_id: str, device: Device, environment: Mapping[str, str] = NOTHING
    ) -> HollowProcess:
        """Raises LaunchError."""
        origin = self._take_standby()
        try:
            ends = socket.socketpair()
        except OSError as exc:
            raise LaunchError(f"no worker process could be started: {exc}") from exc
        for end in ends:
            end.setblocking(False)
        process = HollowProcess(next(_pids), *ends, self._parts, origin)
        self._processes[worker_id] = process
        process.exit.add_done_callback(lambda _exit: self._processes.pop(worker_id, None))
        return process

    @property
    def num_processes(self) -> int:
        return len(self._processes)

    def kill(self, worker_id: str) -> bool:
        """As by SIGKILL; False if there is no such worker."""
        process = self._processes.get(worker_id)
        if process is not None:
            process.kill()
        return process is not None

    def _take_standby(self) -> Origin:
        if not self.num_standbys:
            return Origin.LAUNCHED
        self.num_standbys -= 1
        refill_s = self._parts.settings.standby.drawn_s(self._parts.chance)
        asyncio.get_running_loop().call_later(refill_s, self._refill)
        return Origin.STANDBY

    def _refill(self) -> None:
        self.num_standbys += 1
