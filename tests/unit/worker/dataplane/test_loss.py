"""A neighbour in another process that dies or freezes is noticed within two seconds."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from services.worker.engine.execution.microbatch import MicroBatch, Piece
from services.worker.frames.dataplane import Neighbour, Security
from services.worker.runtime.dataplane.errors import DataPlaneError, NeighbourLost
from services.worker.runtime.dataplane.plane import DataPlane
from services.worker.runtime.dataplane.watch import Neighbours
from tests.support.reference import Bound
from tests.unit.worker.dataplane.ring import HOST, PATIENCE_S, ROW_BYTES, neighbour

NOTICED_WITHIN_S = 2.0  # the promise, which the long run holds it to
REFERENCES = 30  # on top of it where others want the same cores


class Failure:
    """Called by the watch's thread."""

    def __init__(self) -> None:
        self.error: DataPlaneError | None = None
        self.at_s = 0.0
        self._happened = threading.Event()

    def __call__(self, error: DataPlaneError) -> None:
        self.error, self.at_s = error, time.monotonic()
        self._happened.set()

    def wait(self, timeout_s: float) -> bool:
        return self._happened.wait(timeout_s)


@contextmanager
def peer_process(stage: int, security: Security) -> Iterator["subprocess.Popen[str]"]:
    module = "tests.unit.worker.dataplane.peer"
    with subprocess.Popen(
        [sys.executable, "-m", module, str(stage), security],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def linked_peer(
    security: Security, failure: Failure
) -> Iterator[tuple[DataPlane, "subprocess.Popen[str]"]]:
    with (
        DataPlane(stage=0, host=HOST, security=security, failed=failure) as plane,
        peer_process(1, security) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        address, public_key = process.stdout.readline().split()
        other = Neighbour(1, address, public_key)
        own = neighbour(plane, 0)
        process.stdin.write(f"0 {own.address} {own.public_key}\n")
        process.stdin.flush()
        plane.connect(Neighbours(other, other))
        plane.wait_linked(PATIENCE_S)
        assert process.stdout.readline() == "linked\n"
        yield plane, process


@pytest.mark.parametrize("security", Security)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("references", [REFERENCES, pytest.param(0, marks=pytest.mark.long)])
def test_a_process_that_is_killed_or_stopped_is_noticed(
    security: Security, number: signal.Signals, references: int
) -> None:
    failure = Failure()
    with linked_peer(security, failure) as (plane, process):
        batch = MicroBatch(1, (), (Piece(0, 0, 1, True),))
        plane.send(batch, memoryview(bytes(ROW_BYTES)), ROW_BYTES)
        assert plane.receive(PATIENCE_S) is not None
        bound, started_s = Bound(NOTICED_WITHIN_S, references), time.monotonic()

        os.kill(process.pid, number)

        with pytest.raises(NeighbourLost, match="stage 0 lost its neighbour stage 1"):
            while plane.receive(PATIENCE_S) is None:
                pass
        assert failure.wait(PATIENCE_S)
        bound.check(failure.at_s - started_s, "noticing it")
        with pytest.raises(NeighbourLost):
            plane.send(batch, memoryview(bytes(ROW_BYTES)), ROW_BYTES)


def test_a_neighbour_that_only_computes_is_not_lost() -> None:
    """Nobody reads from or writes to its sockets meanwhile; the heartbeats go on."""
    failure = Failure()
    with linked_peer(Security.CURVE, failure) as (plane, _):
        assert not failure.wait(NOTICED_WITHIN_S + 0.5)
        plane.send(MicroBatch(1, (), ()), memoryview(b""), ROW_BYTES)
        assert plane.receive(PATIENCE_S) is not None
