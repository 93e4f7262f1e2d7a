"""A queue of commands that other threads leave for the engine's thread."""

from collections import deque
from dataclasses import dataclass
from threading import Event

from services.worker.engine_port import Request


@dataclass(frozen=True)
class Add:
    request: Request


@dataclass(frozen=True)
class Cancel:
    request_id: str
    attempt: int


Command = Add | Cancel


class CommandQueue:
    """Any thread puts, one thread drains. Never blocks."""

    def __init__(self) -> None:
        self._commands: deque[Command] = deque()  # append and popleft are atomic
        self._arrived = Event()

    def put(self, command: Command) -> None:
        self._commands.append(command)
        self._arrived.set()

    def drain(self) -> list[Command]:
        """Everything put so far, in order."""
        self._arrived.clear()  # first: what comes while draining wakes the next wait
        commands = []
        while self._commands:
            commands.append(self._commands.popleft())
        return commands

    def wake(self) -> None:
        """End a wait, now or the next one, without work."""
        self._arrived.set()

    def wait(self, timeout_s: float) -> None:
        """Return when something was put, after `wake`, or after the timeout."""
        self._arrived.wait(timeout_s)
