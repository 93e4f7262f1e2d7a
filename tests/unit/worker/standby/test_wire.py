import os
import socket

import pytest

from services.worker.frames.standby import (
    Binding,
    pid_in,
    ready_packet,
    receive_binding,
    send_binding,
    socket_pair,
)


def test_a_binding_arrives_with_working_copies_of_its_descriptors() -> None:
    agent, standby = socket_pair()
    said, stderr = os.pipe()
    worker_end, agent_end = socket.socketpair()
    environment = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "3"}
    with agent, standby, worker_end, agent_end, open(said, "rb", 0) as pipe:
        with open(stderr, "wb", 0):
            send_binding(agent, Binding(environment, worker_end.fileno(), stderr))
        found = receive_binding(standby)

        assert found is not None and found.environment == environment
        with socket.socket(fileno=found.worker_end) as received, open(found.stderr, "wb", 0) as err:
            received.send(b"hello")
            err.write(b"oh")
        assert (agent_end.recv(10), pipe.read(10)) == (b"hello", b"oh")


def test_no_binding_comes_from_an_agent_that_has_gone() -> None:
    agent, standby = socket_pair()
    agent.close()
    with standby:
        assert receive_binding(standby) is None


@pytest.mark.parametrize(
    ("packet", "pid"),
    [
        pytest.param(ready_packet(), os.getpid(), id="its own"),
        pytest.param(b"", None, id="the end of the stream"),
        (b"-1", None),
        (b"bound", None),
    ],
)
def test_a_ready_standby_names_its_process(packet: bytes, pid: int | None) -> None:
    assert pid_in(packet) == pid
