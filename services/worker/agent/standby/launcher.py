"""Launches workers from standby processes while there are any, else as processes of their own."""

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from services.worker.agent.devices.device import Device
from services.worker.agent.processes.launcher import NOTHING, ProcessLauncher, worker_environment
from services.worker.agent.processes.process_log import new_log
from services.worker.agent.processes.worker_process import WorkerProcess
from services.worker.agent.standby.pool import StandbyPool
from services.worker.agent.standby.standby import Standby
from services.worker.errors import StandbyLost
from services.worker.frames.standby import Binding

logger = logging.getLogger(__name__)


class StandbyLauncher:
    """A standby that has died, or that does not answer at once, costs no start."""

    def __init__(
        self,
        pool: StandbyPool,
        run_dir: Path,
        bind_timeout_s: float,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._pool, self._run_dir, self._environ = pool, run_dir, environ
        self._bind_timeout_s = bind_timeout_s
        self._ordinary = ProcessLauncher(run_dir, environ)

    @property
    def num_standbys(self) -> int:
        return self._pool.num_ready

    async def launch(
        self, worker_id: str, device: Device, environment: Mapping[str, str] = NOTHING
    ) -> WorkerProcess:
        standby = self._pool.take()
        if standby is not None:
            try:
                return await self._bind(standby, worker_id, device, environment)
            except (StandbyLost, OSError) as exc:
                logger.warning("%s is launched without a standby: %s", worker_id, exc)
        return await self._ordinary.launch(worker_id, device, environment)

    async def _bind(
        self, standby: Standby, worker_id: str, device: Device, beside: Mapping[str, str]
    ) -> WorkerProcess:
        """Raises StandbyLost, OSError; the standby is then discarded."""
        try:
            environment = {**worker_environment(self._environ, device), **beside}
            log = new_log(self._run_dir, worker_id)  # once it is bound, nothing may fail
            ends = _Ends.open()
            try:
                with ends.worker_end, ends.stderr:
                    descriptors = ends.worker_end.fileno(), ends.stderr.fileno()
                    await standby.bind(Binding(environment, *descriptors), self._bind_timeout_s)
            except BaseException:
                ends.agent_end.close()
                ends.said.close()
                raise
        except BaseException:
            self._pool.discard(standby)
            raise
        return WorkerProcess(standby.child, ends.said, ends.agent_end, log)


@dataclass(frozen=True)
class _Ends:
    """Of a worker's socketpair, and of the pipe that becomes its standard error."""

    agent_end: socket.socket
    worker_end: socket.socket
    said: IO[bytes]
    stderr: IO[bytes]

    @classmethod
    def open(cls) -> "_Ends":
        """Raises OSError."""
        said, stderr = os.pipe()
        pipe = open(said, "rb", buffering=0), open(stderr, "wb", buffering=0)
        try:
            return cls(*socket.socketpair(), *pipe)
        except OSError:
            for end in pipe:
                end.close()
            raise
