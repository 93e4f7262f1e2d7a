"""A worker process as a child of the agent: its end is noticed, what it says is logged."""

import asyncio
import logging
import os
import signal
import socket
from dataclasses import dataclass
from typing import IO, Protocol

from libs.common.causes import Cause, CauseKind
from services.worker.agent.processes.process_log import WorkerLog

logger = logging.getLogger(__name__)

STOP_GRACE_S = 2.0
REAP_POLL_S = 0.01


@dataclass(frozen=True)
class Exit:
    """How a process ended. `code` is negative for a signal, as in subprocess."""

    code: int
    last_lines: tuple[str, ...] = ()
    unwatched: str | None = None  # why it was killed: nobody would have noticed its end

    @property
    def cause(self) -> Cause:
        said = " | ".join([line for line in self.last_lines if line.strip()][-3:]) or None
        if self.unwatched is not None:
            unwatched = CauseKind.PROCESS_UNWATCHED
            return Cause.of(unwatched, detail=self.unwatched, last_words=said)
        if self.code >= 0:
            return Cause.of(CauseKind.PROCESS_EXITED, code=self.code, last_words=said)
        signal_name = _signal_name(-self.code)
        return Cause.of(CauseKind.PROCESS_EXITED, signal=signal_name, last_words=said)


class Child(Protocol):
    """An unreaped child that leads a process group, such as a subprocess.Popen."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None:
        """None until it has been reaped."""

    def wait(self) -> int:
        """Reap it."""


class WorkerProcess:
    """Takes over the agent's end of its socketpair and the pipe that is its standard error.

    A process that cannot be watched is killed.
    """

    def __init__(
        self, child: Child, stderr: IO[bytes], agent_end: socket.socket, log: WorkerLog
    ) -> None:
        self._child, self._stderr, self._socket, self._log = child, stderr, agent_end, log
        self._watch = asyncio.create_task(self._follow(), name=f"worker-process-{child.pid}")

    @property
    def pid(self) -> int:
        return self._child.pid

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
        if self._child.returncode is None:
            os.killpg(self._child.pid, number)

    async def _follow(self) -> Exit:
        following = asyncio.create_task(_follow_pipe(self._stderr, self._log))
        unwatched = None
        try:
            await has_ended(self._child.pid)
        except OSError as exc:  # no descriptor is left, above all
            unwatched = str(exc)
            logger.error("process %d is killed unwatched: %s", self._child.pid, exc)
        finally:
            self._reap_group()
        if unwatched is not None:
            await _dead(self._child.pid)
        code = self._child.wait()
        await asyncio.wait({following}, timeout=1.0)
        following.cancel()
        return Exit(code, self._log.last_lines, unwatched)

    def _reap_group(self) -> None:
        """What the worker may have started goes with it; its id is not reused before wait()."""
        os.killpg(self._child.pid, signal.SIGKILL)


async def has_ended(pid: int) -> None:
    """Return when a child has ended (and waits to be reaped)."""
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(pid)
    ended = asyncio.Event()
    try:
        loop.add_reader(descriptor, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _dead(pid: int) -> None:
    """Of a child that was killed: the same as `has_ended`, without a descriptor."""
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while os.waitid(os.P_PID, pid, options) is None:  # noqa: ASYNC110, ASYNC222 - no wait
        await asyncio.sleep(REAP_POLL_S)


async def _follow_pipe(pipe: IO[bytes], log: WorkerLog) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        await log.follow(reader)
    finally:
        transport.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
