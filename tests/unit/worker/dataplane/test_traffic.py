"""What linked stages send arrives, and nothing waits for ever."""

import random
import threading
import time

import pytest

from services.worker.engine.execution.microbatch import MicroBatch, Piece
from services.worker.frames.dataplane import Neighbour, Security
from services.worker.runtime.dataplane.errors import BindError, DataPlaneError, LinkTimedOut
from services.worker.runtime.dataplane.plane import DataPlane
from services.worker.runtime.dataplane.sockets import MAX_QUEUED
from services.worker.runtime.dataplane.watch import Neighbours
from services.worker.runtime.dataplane.wire import Hop
from tests.unit.worker.dataplane.ring import (
    HOST,
    PATIENCE_S,
    ROW_BYTES,
    linked_ring,
    neighbour,
    random_message,
)
from tests.unit.worker.dataplane.slowlink import slow_link

both = pytest.mark.parametrize("security", Security)


@both
@pytest.mark.parametrize("num_stages", [2, 3])
def test_messages_go_round_bit_identical_and_in_order(security: Security, num_stages: int) -> None:
    chance = random.Random(num_stages)
    messages = [random_message(chance, number) for number in range(MAX_QUEUED // 2)]
    with linked_ring(num_stages, security) as planes:
        for batch, hidden in messages:
            planes[0].send(batch, memoryview(hidden), ROW_BYTES)
        for plane in planes[1:]:
            for _ in messages:
                hop = plane.receive(PATIENCE_S)
                assert isinstance(hop, Hop)
                plane.send(hop.batch, hop.hidden, hop.row_bytes)

        for batch, hidden in messages:
            hop = planes[0].receive(PATIENCE_S)
            assert isinstance(hop, Hop)
            assert (hop.batch, bytes(hop.hidden)) == (batch, hidden)


@both
def test_a_slow_link_is_no_dead_neighbour(security: Security) -> None:
    """A long prompt's hop of a large model, over what other traffic leaves of the link."""
    batch = MicroBatch(1, (), (Piece(0, 0, 512, True),))
    hidden = random.Random(7).randbytes(4_000_000)
    with (
        DataPlane(stage=0, host=HOST, security=security) as first,
        DataPlane(stage=1, host=HOST, security=security) as second,
        slow_link(first.address, 2_000_000) as to_first,
        slow_link(second.address, 2_000_000) as to_second,
    ):
        for plane, stage, other, address in (
            (first, 1, second, to_second),
            (second, 0, first, to_first),
        ):
            there = Neighbour(stage, address, other.keys.public)
            plane.connect(Neighbours(there, there))
        first.wait_linked(PATIENCE_S)
        second.wait_linked(PATIENCE_S)

        first.send(batch, memoryview(hidden), 1000)
        hop = second.receive(PATIENCE_S)

        assert isinstance(hop, Hop) and bytes(hop.hidden) == hidden
        assert first.is_linked and second.is_linked


@both
def test_a_stage_whose_neighbour_hears_of_it_later_links_at_once_then(security: Security) -> None:
    with (
        DataPlane(stage=0, host=HOST, security=security) as early,
        DataPlane(stage=1, host=HOST, security=security) as late,
    ):
        other = neighbour(late, 1)
        early.connect(Neighbours(other, other))
        with pytest.raises(LinkTimedOut):
            early.wait_linked(0.3)  # it is refused nothing, only made to wait

        other = neighbour(early, 0)
        late.connect(Neighbours(other, other))

        early.wait_linked(2.0)
        late.wait_linked(2.0)


def test_a_neighbour_that_binds_later_is_found(unused_port: int) -> None:
    """Its address is known before it listens: nobody gives up."""
    with DataPlane(stage=0, host=HOST, security=Security.TRUSTED) as plane:
        nobody = neighbour(plane, 1)
        gone = type(nobody)(1, f"tcp://{HOST}:{unused_port}", nobody.public_key)
        plane.connect(Neighbours(gone, gone))

        with pytest.raises(LinkTimedOut):
            plane.wait_linked(0.5)


def test_neighbours_may_be_told_twice_but_never_change() -> None:
    with linked_ring(2, Security.CURVE) as (first, second):
        same = Neighbours(neighbour(second, 1), neighbour(second, 1))
        first.connect(same)

        with pytest.raises(DataPlaneError, match="do not change"):
            first.connect(Neighbours(same.previous, neighbour(first, 0)))


def test_the_advertised_host_may_be_a_name_but_must_be_this_one() -> None:
    with DataPlane(stage=0, host="localhost", security=Security.CURVE) as plane:
        assert plane.address.startswith("tcp://127.0.0.1:")

    for elsewhere in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(BindError, match=elsewhere):
            DataPlane(stage=0, host=elsewhere, security=Security.CURVE)


def test_waking_ends_a_receive_now_or_the_next_one() -> None:
    with linked_ring(2, Security.TRUSTED) as (first, _):
        first.wake()
        assert first.receive(PATIENCE_S) is None

        waker = threading.Timer(0.1, first.wake)
        waker.start()
        started_s = time.monotonic()
        assert first.receive(PATIENCE_S) is None
        assert time.monotonic() - started_s < PATIENCE_S / 2
        waker.join()


def test_a_message_is_shown_to_the_network_budget_before_it_leaves() -> None:
    sizes: list[int] = []
    with (
        DataPlane(
            stage=0, host=HOST, security=Security.TRUSTED, before_send=sizes.append
        ) as sender,
        DataPlane(stage=1, host=HOST, security=Security.TRUSTED) as receiver,
    ):
        ends = neighbour(sender, 0), neighbour(receiver, 1)
        sender.connect(Neighbours(ends[1], ends[1]))
        receiver.connect(Neighbours(ends[0], ends[0]))
        sender.wait_linked(PATIENCE_S)

        sender.send(MicroBatch(0, (), ()), memoryview(bytes(5 * ROW_BYTES)), ROW_BYTES)

    assert sizes == [36 + 5 * ROW_BYTES]
