"""The agent's side of one standby process."""

import asyncio
import os
import signal
import socket
from contextlib import suppress

from services.worker.agent.processes.worker_process import has_ended
from services.worker.errors import StandbyLost, StandbySilent
from services.worker.frames.standby import (
    BOUND,
    MAX_PACKET_BYTES,
    Binding,
    pid_in,
    send_binding,
)


class ForkedChild:
    """A child by adoption, for what follows a subprocess.Popen."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self) -> int:
        if self.returncode is None:
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class Standby:
    """Use it once: `bind` it, or `discard` it."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.child = ForkedChild(pid)
        self._channel = channel

    @classmethod
    async def expect(cls, channel: socket.socket, timeout_s: float) -> "Standby":
        """The one that was forked for this socket, once it is ready. Raises StandbyLost.

        Takes over the socket.
        """
        try:
            pid = pid_in(await _receive(channel, timeout_s))
        except BaseException:
            channel.close()
            raise
        if pid is None:
            channel.close()
            raise StandbyLost("it ended before it was ready")
        return cls(pid, channel)

    async def bind(self, binding: Binding, timeout_s: float) -> None:
        """Returns when it has taken its work. Raises StandbyLost."""
        try:
            send_binding(self._channel, binding)
        except OSError as exc:
            raise StandbyLost(f"it cannot be told its work: {exc}") from exc
        if await _receive(self._channel, timeout_s) != BOUND:
            raise StandbyLost("it has ended")
        self._channel.close()

    async def until_lost(self) -> None:
        """Returns when it has ended, or at least closed its socket; it says nothing unasked."""
        await asyncio.get_running_loop().sock_recv(self._channel, MAX_PACKET_BYTES)

    async def discard(self) -> None:
        """End and reap it."""
        self._channel.close()
        with suppress(ProcessLookupError):
            os.kill(self.child.pid, signal.SIGKILL)
            await has_ended(self.child.pid)
        with suppress(ChildProcessError):
            self.child.wait()


async def _receive(channel: socket.socket, timeout_s: float) -> bytes:
    """The next packet, empty at the end of the stream. Raises StandbySilent when none has come."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            return await loop.sock_recv(channel, MAX_PACKET_BYTES)
    except TimeoutError as exc:
        raise StandbySilent(f"it said nothing for {timeout_s:g} s") from exc
    except ConnectionError:
        return b""
