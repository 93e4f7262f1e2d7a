"""What the zygote answers when no process can be forked, and what it keeps."""

import errno
import os
import socket
from typing import NoReturn

import pytest

from services.worker.frames.standby import socket_pair
from services.worker.runtime.standby import zygote


def num_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_fork_that_fails_is_answered_and_costs_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused() -> NoReturn:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    for name in ("die_with_agent", "set_process_name", "preload"):  # of this process: no
        monkeypatch.setattr(zygote, name, lambda *_: None)
    monkeypatch.setattr(os, "fork", refused)
    num_before = num_descriptors()
    agent, control = socket_pair()
    with agent:
        standbys = [asked(agent) for _ in range(3)]
        agent.shutdown(socket.SHUT_WR)

        zygote.run(control.detach(), os.getpid())

        for standby in standbys:
            with standby:
                assert standby.recv(1) == b""
    assert num_descriptors() == num_before


def asked(agent: socket.socket) -> socket.socket:
    ours, theirs = socket_pair()
    with theirs:
        socket.send_fds(agent, [b"f"], [theirs.fileno()])
    return ours
