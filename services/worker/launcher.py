"""Starting worker processes: the port, and the launcher that starts plain processes.

A worker gets one end of a socketpair and a minimal environment: no credentials, no bus address.
It dies with its agent (see `runtime.py`: parent-death signal, and the socket's end).
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.worker.errors import LaunchError
from services.worker.settings import DeviceKind, DeviceSettings
from services.worker.workerlog import WorkerLog, prepare_log_folder

STOP_GRACE_S = 2.0
RUNTIME_MODULE = "services.worker.runtime"
# What a worker may inherit; everything else, secrets above all, stays with the agent.
_INHERITED = (
    *("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH"),
    *("PYTHONPATH", "PYTHONPYCACHEPREFIX", "VIRTUAL_ENV"),
)
# One thread each while many workers start on few cores; the runtime raises it when it is ready.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Exit:
    """How a process ended. `code` is negative for a signal, as in subprocess."""

    code: int
    last_lines: tuple[str, ...] = ()

    @property
    def cause(self) -> str:
        if self.code >= 0:
            how = f"the worker process exited with code {self.code}"
        else:
            how = f"the worker process was killed by {_signal_name(-self.code)}"
        said = [line for line in self.last_lines if line.strip()][-3:]
        return f"{how}: {' | '.join(said)}" if said else how


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
    async def launch(self, worker_id: str, device: DeviceSettings) -> WorkerHandle:
        """Raises LaunchError."""


class ProcessLauncher:
    """Workers as child processes, each in its own session. Use it from the main thread only.

    The kernel sends a child its parent-death signal when the *thread* that forked it ends.
    """

    def __init__(self, run_dir: Path, environ: Mapping[str, str] = os.environ) -> None:
        self._log_dir = run_dir / "workers"
        self._environ = environ

    async def launch(self, worker_id: str, device: DeviceSettings) -> "WorkerProcess":
        prepare_log_folder(self._log_dir)
        agent_end, worker_end = socket.socketpair()
        try:
            process = self._spawn(worker_end.fileno(), device)
        except OSError as exc:
            agent_end.close()
            raise LaunchError(f"no worker process could be started: {exc}") from exc
        finally:
            worker_end.close()
        log = WorkerLog(self._log_dir / f"{worker_id}.log")
        return WorkerProcess(process, agent_end, log)

    def _spawn(self, descriptor: int, device: DeviceSettings) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", RUNTIME_MODULE, str(descriptor), str(os.getpid())]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=worker_environment(self._environ, device),
            pass_fds=(descriptor,),
            start_new_session=True,
        )


def worker_environment(environ: Mapping[str, str], device: DeviceSettings) -> dict[str, str]:
    """All that a worker process finds in its environment."""
    inherited = {key: environ[key] for key in _INHERITED if key in environ}
    return {
        **inherited,
        **_ONE_THREAD,
        "PYTHONUNBUFFERED": "1",
        "CUDA_VISIBLE_DEVICES": _visible_gpu(environ, device),
    }


def _visible_gpu(environ: Mapping[str, str], device: DeviceSettings) -> str:
    """The one GPU of the worker, counted among those that the agent itself may see."""
    if device.kind is DeviceKind.CPU or device.ordinal is None:
        return ""
    visible = [part for part in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
    return visible[device.ordinal] if device.ordinal < len(visible) else str(device.ordinal)


class WorkerProcess:
    """A child process; notices its end by a pidfd."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", agent_end: socket.socket, log: WorkerLog
    ) -> None:
        self._process, self._socket, self._log = process, agent_end, log
        self._watch = asyncio.create_task(self._follow(), name=f"worker-process-{process.pid}")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def socket(self) -> socket.socket:
        return self._socket

    async def wait(self) -> Exit:
        return await asyncio.shield(self._watch)

    async def stop(self) -> None:
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_GRACE_S):
                await self.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self.wait()

    def _signal(self, number: signal.Signals) -> None:
        """To the whole group; unreaped, so the id still is this worker's."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, number)

    async def _follow(self) -> Exit:
        assert self._process.stderr is not None
        following = asyncio.create_task(_follow_pipe(self._process.stderr, self._log))
        await _gone(self._process.pid)
        self._reap_group()
        code = self._process.wait()
        await asyncio.wait({following}, timeout=1.0)
        following.cancel()
        return Exit(code, self._log.last_lines)

    def _reap_group(self) -> None:
        """What the worker may have started goes with it; its id is not reused before wait()."""
        os.killpg(self._process.pid, signal.SIGKILL)


async def _follow_pipe(pipe: object, log: WorkerLog) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        await log.follow(reader)
    finally:
        transport.close()


async def _gone(pid: int) -> None:
    """Return when the process has ended (and waits to be reaped)."""
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(pid)
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
