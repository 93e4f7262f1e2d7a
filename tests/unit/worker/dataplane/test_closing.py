"""A ring that was closed: whoever leaves it then is missed by nobody."""

from contextlib import ExitStack
from itertools import permutations

import pytest

from services.worker.engine.execution.microbatch import MicroBatch
from services.worker.engine.execution.notices import KvInletOpened, RingClosed
from services.worker.frames.dataplane import Neighbour, Security
from services.worker.runtime.dataplane.errors import DataPlaneError, NeighbourLost
from services.worker.runtime.dataplane.plane import DataPlane
from services.worker.runtime.dataplane.watch import Neighbours
from services.worker.runtime.dataplane.wire import Hop
from tests.unit.worker.dataplane.ring import HOST, PATIENCE_S, ROW_BYTES

both = pytest.mark.parametrize("security", Security)
CLOSED = RingClosed(2)


class Ring:
    """Stages whose failures are kept, and which end one by one."""

    def __init__(self, num_stages: int, security: Security) -> None:
        self.failures: list[DataPlaneError] = []
        self.planes = [
            DataPlane(stage=n, host=HOST, security=security, failed=self.failures.append)
            for n in range(num_stages)
        ]
        self._open = set(range(num_stages))
        for n, plane in enumerate(self.planes):
            plane.connect(Neighbours(self._at(n - 1), self._at(n + 1)))
        for plane in self.planes:
            plane.wait_linked(PATIENCE_S)

    def _at(self, stage: int) -> Neighbour:
        stage %= len(self.planes)
        return Neighbour(stage, self.planes[stage].address, self.planes[stage].keys.public)

    def end(self, stage: int) -> None:
        if stage in self._open:
            self._open.remove(stage)
            self.planes[stage].close()

    def close(self) -> None:
        for stage in tuple(self._open):
            self.end(stage)

    def pass_on(self, stage: int) -> None:
        message = self.planes[stage].receive(PATIENCE_S)
        assert message == CLOSED
        self.planes[stage].tell(message)


@both
@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_closed_its_stages_end_in_any_order_without_an_alarm(
    security: Security, order: tuple[int, ...]
) -> None:
    with ExitStack() as stack:
        ring = Ring(3, security)
        stack.callback(ring.close)
        ring.planes[0].tell(CLOSED)
        for stage in (1, 2):
            ring.pass_on(stage)

        for stage in order:
            ring.end(stage)

    assert ring.failures == []


@both
def test_who_was_told_after_a_neighbour_had_gone_finds_what_it_said(security: Security) -> None:
    with ExitStack() as stack:
        ring = Ring(2, security)
        stack.callback(ring.close)
        ring.planes[0].tell(CLOSED)
        # The notice is sent before the connection ends: it comes first, and is read first.
        message = ring.planes[1].receive(PATIENCE_S)
        ring.end(0)

        assert message == CLOSED
        ring.planes[1].tell(CLOSED)
        assert ring.planes[1].receive(0) is None

    assert ring.failures == []


@both
def test_closing_a_ring_whose_next_stage_is_gone_raises_nothing(security: Security) -> None:
    with ExitStack() as stack:
        ring = Ring(2, security)
        stack.callback(ring.close)
        ring.end(1)

        ring.planes[0].tell(CLOSED)

        assert ring.planes[0].receive(0) is None


@both
def test_before_it_is_closed_a_loss_is_one(security: Security) -> None:
    with ExitStack() as stack:
        ring = Ring(3, security)
        stack.callback(ring.close)
        ring.end(0)

        with pytest.raises(NeighbourLost):
            while ring.planes[1].receive(PATIENCE_S) is None:
                continue


@both
def test_notices_keep_their_place_among_micro_batches(security: Security) -> None:
    opened = KvInletOpened("tcp://127.0.0.1:1", "k" * 40)
    with ExitStack() as stack:
        ring = Ring(2, security)
        stack.callback(ring.close)
        first, second = ring.planes
        for number in (1, 2):
            first.send(MicroBatch(number, (), ()), memoryview(b""), ROW_BYTES)
            first.tell(opened)

        heard = [second.receive(PATIENCE_S) for _ in range(4)]

    numbers = [message.batch.number for message in heard if isinstance(message, Hop)]
    assert numbers == [1, 2] and heard[1] == heard[3] == opened
