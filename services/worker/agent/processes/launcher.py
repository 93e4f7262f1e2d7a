"""Starting worker processes: the port, and the launcher that starts plain processes.

A worker gets one end of a socketpair and a minimal environment: no credentials, no bus address.
It dies with its agent (see `runtime.py`: parent-death signal, and the socket's end).
"""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from services.worker.agent.devices.device import Device
from services.worker.agent.processes.process_log import new_log
from services.worker.agent.processes.worker_process import Exit, WorkerProcess
from services.worker.errors import LaunchError

RUNTIME_MODULE = "services.worker.runtime"
# What a worker may inherit; everything else, secrets above all, stays with the agent.
_INHERITED = (
    *("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH"),
    *("PYTHONPATH", "PYTHONPYCACHEPREFIX", "VIRTUAL_ENV"),
)
# One thread each while many workers start on few cores; the runtime raises it when it is ready.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

# A thread that waits for the others of its team spins this often, then sleeps: some microseconds.
# The default is milliseconds, which cores that are shared with other processes must not lose.
SHORT_SPIN = {"GOMP_SPINCOUNT": "2000"}

NOTHING: Mapping[str, str] = MappingProxyType({})


class WorkerHandle(Protocol):
    """A started worker process and the agent's end of its socketpair."""

    @property
    def pid(self) -> int | None: ...

    @property
    def socket(self) -> socket.socket: ...

    async def wait(self) -> Exit:
        """How it ended, once it has; may be awaited by several."""

    async def stop(self) -> None:
        """End it: politely, after STOP_GRACE_S by force. Returns when it is gone; idempotent."""


class Launcher(Protocol):
    @property
    def num_standbys(self) -> int:
        """How many launches would find a process that has imported everything."""

    async def launch(
        self, worker_id: str, device: Device, environment: Mapping[str, str] = NOTHING
    ) -> WorkerHandle:
        """With `environment` beside what every worker has. Raises LaunchError."""


class ProcessLauncher:
    """Workers as child processes, each in its own session. Use it from the main thread only.

    The kernel sends a child its parent-death signal when the *thread* that forked it ends.
    """

    def __init__(self, run_dir: Path, environ: Mapping[str, str] = os.environ) -> None:
        self._run_dir, self._environ = run_dir, environ

    async def launch(
        self, worker_id: str, device: Device, environment: Mapping[str, str] = NOTHING
    ) -> WorkerProcess:
        log = new_log(self._run_dir, worker_id)
        try:
            agent_end, worker_end = socket.socketpair()
        except OSError as exc:
            raise LaunchError(f"no worker process could be started: {exc}") from exc
        try:
            process = self._spawn(worker_end.fileno(), device, environment)
        except OSError as exc:
            agent_end.close()
            raise LaunchError(f"no worker process could be started: {exc}") from exc
        finally:
            worker_end.close()
        assert process.stderr is not None
        return WorkerProcess(process, process.stderr, agent_end, log)

    def _spawn(
        self, descriptor: int, device: Device, environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", RUNTIME_MODULE, str(descriptor), str(os.getpid())]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**worker_environment(self._environ, device), **environment},
            pass_fds=(descriptor,),
            start_new_session=True,
        )


def worker_environment(environ: Mapping[str, str], device: Device | None) -> dict[str, str]:
    """All that a worker process finds in its environment. Without a device it sees no GPU."""
    return {
        **inherited(environ),
        **_ONE_THREAD,
        **SHORT_SPIN,
        "PYTHONUNBUFFERED": "1",
        # A UUID means the same GPU whatever the agent sees, and however CUDA counts.
        "CUDA_VISIBLE_DEVICES": "" if device is None else device.uuid or "",
    }


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What every process of ours may have of the agent's environment."""
    return {key: environ[key] for key in _INHERITED if key in environ}
