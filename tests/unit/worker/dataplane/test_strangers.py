"""Nobody but the previous stage is let in, and strangers cost the stage nothing."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq

from services.worker.engine.execution.microbatch import MicroBatch
from services.worker.frames.dataplane import KeyPair, Neighbour, Security
from services.worker.runtime.dataplane import plane
from services.worker.runtime.dataplane.plane import DataPlane
from services.worker.runtime.dataplane.sockets import make_keys, open_outlet
from services.worker.runtime.dataplane.wire import (
    MAX_FRAME_BYTES,
    Hop,
    encode_header,
    encode_hello,
)
from tests.unit.worker.dataplane.ring import PATIENCE_S, ROW_BYTES, linked_ring

BATCH = MicroBatch(1, (), ())
HOP = (encode_header(BATCH, 0, ROW_BYTES, 0), b"")
SETTLE_S = 0.2


@contextmanager
def stranger(target: DataPlane, security: Security, keys: KeyPair) -> Iterator["zmq.Socket[bytes]"]:
    """A socket that speaks as a stage does."""
    context = zmq.Context()
    outlet = open_outlet(context, security, keys, Neighbour(1, target.address, target.keys.public))
    outlet.connect(target.address)
    try:
        yield outlet
    finally:
        context.destroy(0)


def assert_only_the_neighbour_is_heard(planes: list[DataPlane]) -> None:
    first, second = planes
    assert second.receive(SETTLE_S) is None
    first.send(MicroBatch(99, (), ()), memoryview(b""), ROW_BYTES)
    hop = second.receive(PATIENCE_S)
    assert isinstance(hop, Hop) and hop.batch.number == 99
    second.send(hop.batch, hop.hidden, ROW_BYTES)
    assert first.receive(PATIENCE_S) is not None


def push(outlet: "zmq.Socket[bytes]") -> None:
    """Leaves in ZeroMQ's hands what a stranger would say first."""
    outlet.send(encode_hello(0))
    outlet.send_multipart(HOP)


@pytest.mark.parametrize("security", Security)
def test_a_stranger_with_fresh_keys_is_refused_by_every_socket(security: Security) -> None:
    with linked_ring(2, security) as planes:
        for target in planes:
            with stranger(target, security, make_keys()) as outlet:
                push(outlet)
                assert_only_the_neighbour_is_heard(planes)


@pytest.mark.parametrize("security", Security)
def test_a_stage_of_another_endpoint_is_refused_by_every_socket(security: Security) -> None:
    with linked_ring(2, security) as planes, linked_ring(2, security) as others:
        for target in planes:
            for other in others:
                with stranger(target, security, other.keys) as outlet:
                    push(outlet)
                    assert_only_the_neighbour_is_heard(planes)


def test_the_next_stage_is_a_stranger_to_the_inlet_too() -> None:
    with linked_ring(3, Security.CURVE) as planes:
        with stranger(planes[1], Security.CURVE, planes[2].keys) as outlet:
            push(outlet)
            assert planes[1].receive(SETTLE_S) is None


def test_before_the_neighbours_are_known_nobody_is_let_in() -> None:
    with DataPlane(stage=0, host="127.0.0.1", security=Security.CURVE) as plane:
        with stranger(plane, Security.CURVE, make_keys()) as outlet:
            outlet.set(zmq.SNDTIMEO, int(SETTLE_S * 1000))
            outlet.set(zmq.IMMEDIATE, 1)
            with pytest.raises(zmq.Again):
                while True:
                    outlet.send(encode_hello(0))


@pytest.mark.parametrize("security", Security)
def test_a_client_without_a_key_is_refused(security: Security) -> None:
    with linked_ring(2, security) as planes:
        context = zmq.Context()
        plain = context.socket(zmq.PUSH)
        plain.connect(planes[1].address)
        push(plain)

        assert_only_the_neighbour_is_heard(planes)
        context.destroy(0)


def test_bytes_of_another_protocol_and_silent_connections_disturb_nobody() -> None:
    with linked_ring(2, Security.CURVE) as planes:
        host, port = planes[1].address.removeprefix("tcp://").split(":")
        with (
            socket.create_connection((host, int(port))) as silent,
            socket.create_connection((host, int(port))) as noisy,
        ):
            noisy.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 100)
            assert_only_the_neighbour_is_heard(planes)
            silent.close()
            assert_only_the_neighbour_is_heard(planes)


def test_an_oversized_frame_ends_the_connection_and_never_arrives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plane, "hidden_frames", lambda hidden: [hidden])
    with linked_ring(2, Security.TRUSTED) as (first, second):
        rows = MAX_FRAME_BYTES // ROW_BYTES + 1
        first.send(BATCH, memoryview(bytes(rows * ROW_BYTES)), ROW_BYTES)

        with pytest.raises(Exception, match="stage 1 lost its neighbour stage 0"):
            second.receive(PATIENCE_S)
