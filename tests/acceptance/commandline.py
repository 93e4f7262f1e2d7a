"""The installed `hydraserve` command, in a process of its own as a user starts it."""

import asyncio
import os
import pty
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.local.stack import LocalStack
from tests.support.waiting import eventually

COMMAND = Path(sys.executable).with_name("hydraserve")
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Ended:
    exit_code: int
    out: str
    err: str


def environment(stack: LocalStack) -> dict[str, str]:
    """It finds the stack by its state folder alone."""
    inherited = {key: value for key, value in os.environ.items() if "HYDRA" not in key}
    return inherited | {"HYDRASERVE_STATE": str(stack.options.state.path), "TERM": "dumb"}


async def hydraserve(stack: LocalStack, *arguments: str, **variables: str) -> Ended:
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *arguments,
        env=environment(stack) | variables,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), _TIMEOUT_S)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


class TerminalSession:
    """A command at a terminal: what is typed, and what stands on the screen."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: int) -> None:
        self.process, self._terminal = process, terminal
        self.screen = ""
        asyncio.get_running_loop().add_reader(terminal, self._read)

    @classmethod
    async def open(cls, stack: LocalStack, *arguments: str) -> "TerminalSession":
        terminal, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            COMMAND,
            *arguments,
            env=environment(stack),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(theirs)
        return cls(process, terminal)

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    async def shows(self, text: str, *, times: int = 1) -> None:
        """Waits until it stands on the screen so often; a failure prints the screen."""
        what = f"{text!r} on the screen, {times} times"
        await self._reaches(lambda: self.screen.count(text) >= times, what)

    async def grows(self, num_characters: int) -> None:
        """Waits until so many more have been written than stand there now."""
        wanted = len(self.screen) + num_characters
        await self._reaches(lambda: len(self.screen) >= wanted, f"{num_characters} more characters")

    async def ended(self) -> int:
        """Its exit code, once it has one."""
        return await asyncio.wait_for(self.process.wait(), _TIMEOUT_S)

    async def _reaches(self, condition: Callable[[], bool], what: str) -> None:
        try:
            await eventually(condition, timeout_s=_TIMEOUT_S, what=what)
        except AssertionError as exc:
            raise AssertionError(f"{exc}; the screen:\n{self.screen}") from None

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._terminal)
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        os.close(self._terminal)

    def _read(self) -> None:
        try:
            self.screen += os.read(self._terminal, 65536).decode(errors="replace")
        except OSError:  # the other side is closed
            asyncio.get_running_loop().remove_reader(self._terminal)


def _take_terminal() -> None:
    """So that Ctrl-C, typed, becomes a SIGINT that counts, also where the tests run in the
    background of a shell that ignores it."""
    import fcntl
    import signal
    import termios

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
