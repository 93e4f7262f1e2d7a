"""The gateway's end of one child process: asked with a deadline, killed when late."""

import asyncio
import signal
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from services.gateway.errors import ChildFailed

_EXIT_TIMEOUT_S = 1.0
# Isolated, Python looks neither into the working folder nor where PYTHONPATH says; in an image the
# project is not installed.
_PROJECT = Path(__file__).parents[3]
_RUN = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# What a child brings upon itself: its limit of CPU time, and libraries that abort without memory.
_OWN_FAULTS = (signal.SIGXCPU, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL)


@dataclass(frozen=True)
class ChildCommand:
    """A script that answers frames on stdin with frames on stdout. A frame is a 4-byte big-endian
    length and so many bytes."""

    script: Path
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    max_reply_bytes: int = 2**20


class ChildProcess:
    """Answers one request at a time. After ChildFailed check `is_alive` before reusing it."""

    def __init__(self, process: asyncio.subprocess.Process, max_reply_bytes: int) -> None:
        self._process, self._max_reply_bytes = process, max_reply_bytes
        self._is_killed = False

    @classmethod
    async def start(cls, command: ChildCommand) -> "ChildProcess":
        """No environment but the command's, no working folder of ours, isolated from Python's
        settings. Raises OSError."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-c", _RUN, str(_PROJECT), str(command.script),
            *command.arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(command.environment),
            cwd="/",
            start_new_session=True,
        )  # fmt: skip
        return cls(process, command.max_reply_bytes)

    @property
    def is_alive(self) -> bool:
        """Once killed it is not, whether its status is known or not."""
        return self._process.returncode is None and not self._is_killed

    @property
    def pid(self) -> int:
        return self._process.pid

    async def exchange(self, request: bytes, timeout_s: float) -> bytes:
        """Raises ChildFailed with a cause that the client may see."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(request)
        except TimeoutError as exc:
            await self.kill()
            raise ChildFailed(f"it ran longer than {timeout_s:g} s", is_own_fault=True) from exc
        except (OSError, asyncio.IncompleteReadError, ValueError) as exc:
            raise await self._death() from exc
        except asyncio.CancelledError:
            await self.kill()  # its answer would be taken for the next request's
            raise

    async def _exchange(self, request: bytes) -> bytes:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(struct.pack(">I", len(request)))
        stdin.write(request)
        await stdin.drain()
        (length,) = struct.unpack(">I", await stdout.readexactly(4))
        if length > self._max_reply_bytes:
            raise ValueError("the reply is too long")
        return await stdout.readexactly(length)

    async def _death(self) -> ChildFailed:
        """Its pipe may close a moment before its status is known; a kill would hide that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_TIMEOUT_S):
                await self._process.wait()
        status = self._process.returncode or 0  # positive: Python itself ended for lack of memory
        is_own_fault = self.is_alive or status > 0 or -status in _OWN_FAULTS
        await self.kill()
        if self._process.returncode == -signal.SIGXCPU:
            return ChildFailed("it used more CPU time than it may", is_own_fault=True)
        cause = "its process died, probably for lack of memory"
        return ChildFailed(cause, is_own_fault=is_own_fault)

    async def kill(self) -> None:
        self._is_killed = True
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
