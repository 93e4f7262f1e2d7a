"""A zygote's stand-in: what it forks are plain processes, or what a test says happens instead."""

import socket
import subprocess
from collections import deque
from collections.abc import Callable, Mapping

from services.worker.frames.standby import socket_pair

Fork = Callable[[socket.socket], object]


class ZygoteDouble:
    """Its forks go as told, in turn; then each succeeds."""

    def __init__(self, *forks: Fork) -> None:
        self.num_started = self.num_forks = self.num_ended = 0
        self.is_running = False
        self.pid = 0
        self._forks = deque(forks)
        self._open: list[socket.socket] = []

    def start(self, environment: Mapping[str, str]) -> "ZygoteDouble":
        assert environment == {}
        self.num_started += 1
        self.is_running = True
        return self

    def fork(self) -> socket.socket:
        self.num_forks += 1
        ours, theirs = socket_pair()
        ours.setblocking(False)
        self._open.append(theirs)
        try:
            (self._forks.popleft() if self._forks else ready)(theirs)
        except BaseException:
            ours.close()
            raise
        return ours

    async def end(self) -> None:
        self.num_ended += 1
        self.is_running = False

    def close(self) -> None:
        for channel in self._open:
            channel.close()


def ready(channel: socket.socket) -> None:
    process = subprocess.Popen(["sleep", "60"])
    process.returncode = 0  # the pool reaps it
    channel.send(str(process.pid).encode())


def fail(channel: socket.socket) -> None:
    channel.close()


def hang(_channel: socket.socket) -> None:
    pass


def break_down(_channel: socket.socket) -> None:
    raise RuntimeError("a bug")
