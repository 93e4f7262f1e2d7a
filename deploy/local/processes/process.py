"""One child process: started so that it cannot outlive us, stopped with a deadline."""

import asyncio
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.processes.privilege import Account
from deploy.local.state.log_files import rotate

_PR_SET_PDEATHSIG = 1
_TAIL_BYTES = 8 * 2**10
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class ProcessSpec:
    """What to run. `env` is the whole environment; nothing is inherited."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: Path
    log_path: Path
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0


class ChildProcess:
    """A process of its own session, whose whole group ends with it.

    Start it from the main thread: the kernel's parent-death signal follows the forking *thread*.
    """

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec
        spec.log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        rotate(spec.log_path)
        with spec.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._popen = subprocess.Popen(
                spec.argv,
                env=dict(spec.env),
                cwd=spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_before_exec(spec.account),
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number when a signal ended it."""
        return self._popen.returncode

    async def wait(self) -> int:
        """Waits for its end, kills what is left of its group, returns its exit code."""
        if self._popen.returncode is None:
            await self._exited()
            self._reap()
        return self._popen.returncode

    def has_exited(self) -> bool:
        """Asks the kernel, without reaping: the group's id stays ours until `wait`."""
        if self._popen.returncode is not None:
            return True
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None

    async def stop(self) -> int:
        """Asks it to end, kills it after its deadline, returns its exit code."""
        self.send_signal(self.spec.stop_signal)
        try:
            async with asyncio.timeout(self.spec.stop_timeout_s):
                return await self.wait()
        except TimeoutError:
            self.send_signal(signal.SIGKILL)
            return await self.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """To the process alone; does nothing once it has been reaped."""
        if self._popen.returncode is None:
            os.kill(self.pid, number)

    def kill_now(self) -> None:
        """Kills the group and blocks until it is reaped: the last resort on the way out."""
        self._reap()

    def log_tail(self) -> str:
        """The end of what this process, and not an earlier one of its name, has logged."""
        with self.spec.log_path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            if end < self._log_start:  # it was rotated since
                self._log_start = 0
            log.seek(max(self._log_start, end - _TAIL_BYTES))
            return log.read().decode(errors="replace").rstrip()

    async def _exited(self) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        descriptor = os.pidfd_open(self.pid)
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    def _reap(self) -> None:
        if self._popen.returncode is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


def _before_exec(account: Account | None) -> Callable[[], None]:
    parent = os.getpid()

    def tie_to_parent() -> None:
        if account is not None:
            account.assume()
        # After the change of account, which clears it.
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return tie_to_parent
