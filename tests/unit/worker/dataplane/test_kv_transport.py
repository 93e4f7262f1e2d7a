"""Keys and values from stages to the entry, over real sockets."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from services.worker.engine.consolidation.kv_ports import KvBlock, KvBlockLost
from services.worker.frames.dataplane import Security
from services.worker.runtime.dataplane.errors import KvInletFailed, WireError
from services.worker.runtime.dataplane.kv_inlet import KvInlet
from services.worker.runtime.dataplane.kv_outlet import KvOutlet
from services.worker.runtime.dataplane.kv_wire import (
    HEADER_BYTES,
    KvShape,
    decode_block,
    encode_block,
)
from tests.unit.worker.dataplane.ring import HOST, PATIENCE_S

SHAPE = KvShape(num_layers=12, num_kv_heads=2, head_dim=8, dtype=torch.float32)
both = pytest.mark.parametrize("security", Security)


def block_of(
    stage: int, export_id: int, num_tokens: int = 5, dtype: torch.dtype = torch.float32
) -> KvBlock:
    generator = torch.Generator().manual_seed(100 * stage + export_id)
    data = torch.randn((3, 2, num_tokens, 2, 8), generator=generator).to(dtype)
    return KvBlock(export_id, stage, 3 * stage, data)


@contextmanager
def opened(
    security: Security, num_outlets: int, shape: KvShape = SHAPE
) -> Iterator[tuple[KvInlet, list[KvOutlet]]]:
    inlet = KvInlet(HOST, security, shape)
    outlets = [KvOutlet(security, stage=stage) for stage in range(1, num_outlets + 1)]
    try:
        notice = inlet.open()
        for outlet in outlets:
            notice = outlet.open(notice)
        inlet.admit(notice)
        yield inlet, outlets
    finally:
        inlet.close()
        for outlet in outlets:
            outlet.close()


def same(one: KvBlock, other: KvBlock) -> bool:
    is_same_place = replace(one, data=other.data) == other
    return is_same_place and torch.equal(
        one.data.view(torch.uint8), other.data.contiguous().view(torch.uint8)
    )


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_come_bit_identical_and_those_of_a_stage_in_order(
    security: Security, dtype: torch.dtype
) -> None:
    sent = {stage: [block_of(stage, n, 1 + 40 * n, dtype) for n in range(6)] for stage in (1, 2, 3)}
    with opened(security, 3, replace(SHAPE, dtype=dtype)) as (inlet, outlets):
        for outlet, blocks in zip(outlets, sent.values(), strict=True):
            for block in blocks:
                outlet.send(block)
        came = [inlet.receive(PATIENCE_S) for _ in range(18)]

    for stage, blocks in sent.items():
        of_stage = [block for block in came if isinstance(block, KvBlock) and block.stage == stage]
        assert all(map(same, of_stage, blocks)) and len(of_stage) == len(blocks)


def test_a_large_block_is_charged_to_the_budget_in_pieces() -> None:
    charged: list[int] = []
    outlet = KvOutlet(Security.CURVE, stage=1, before_send=charged.append)
    received: list[int] = []
    inlet = KvInlet(HOST, Security.CURVE, SHAPE, after_receipt=received.append)
    try:
        inlet.admit(outlet.open(inlet.open()))
        block = block_of(1, 0, 8_000)
        outlet.send(block)
        came = inlet.receive(PATIENCE_S)
    finally:
        inlet.close()

    assert isinstance(came, KvBlock) and same(came, block)
    assert sum(charged) == sum(received) == block.num_bytes + HEADER_BYTES
    assert max(charged) <= 2**18


def test_the_thread_of_an_outlet_that_is_closed_ends() -> None:
    before = set(threading.enumerate())
    with opened(Security.CURVE, 1) as (inlet, (outlet,)):
        outlet.send(block_of(1, 0))
        assert inlet.receive(PATIENCE_S) is not None
        (own,) = [
            thread
            for thread in threading.enumerate()
            if thread.name == "kv-outlet" and thread not in before
        ]

    own.join(PATIENCE_S)

    assert not own.is_alive()


@both
def test_a_stranger_is_not_heard(security: Security) -> None:
    inlet, outlet, stranger = (
        KvInlet(HOST, security, SHAPE),
        *(KvOutlet(security, stage=1), KvOutlet(security, stage=1)),
    )
    try:
        notice = inlet.open()
        stranger.open(notice)
        inlet.admit(outlet.open(notice))
        stranger.send(block_of(1, 7))
        outlet.send(block_of(1, 0))

        came = inlet.receive(PATIENCE_S)

        assert isinstance(came, KvBlock) and came.export_id == 0
        assert inlet.receive(0.2) is None
    finally:
        inlet.close()


def test_a_stage_that_speaks_for_another_ends_it() -> None:
    with opened(Security.CURVE, 2) as (inlet, outlets):
        outlets[1].send(block_of(1, 0))

        with pytest.raises(KvInletFailed, match="no block of stage 2"):
            inlet.receive(PATIENCE_S)


def test_nothing_comes_in_time_and_a_wake_ends_the_wait() -> None:
    with opened(Security.TRUSTED, 1) as (inlet, _):
        assert inlet.receive(0.01) is None
        inlet.wake()
        assert inlet.receive(PATIENCE_S) is None


def test_closed_while_stages_send_nothing_hangs() -> None:
    with opened(Security.CURVE, 2) as (inlet, outlets):
        for n in range(200):
            for stage, outlet in enumerate(outlets, 1):
                outlet.send(block_of(stage, n, 400))
        assert inlet.receive(PATIENCE_S) is not None
        inlet.close()
        inlet.close()


def test_a_second_inlet_gets_nothing_that_was_meant_for_the_first() -> None:
    with opened(Security.CURVE, 1) as (first, outlets):
        first.close()
        outlets[0].send(block_of(1, 1))
        second = KvInlet(HOST, Security.CURVE, SHAPE)
        second.admit(outlets[0].open(second.open()))
        outlets[0].send(block_of(1, 2))
        try:
            came = second.receive(PATIENCE_S)
        finally:
            second.close()

    assert isinstance(came, KvBlock) and came.export_id == 2


def frames_of(block: KvBlock) -> list[memoryview]:
    return [memoryview(bytearray(frame)) for frame in encode_block(block)]


@pytest.mark.parametrize("position", [0, 1, 100, -1])
def test_a_damaged_byte_is_noticed(position: int) -> None:
    frames = frames_of(block_of(1, 9))
    frames[1][position] ^= 1

    assert decode_block(frames, 1, SHAPE) == KvBlockLost(9, 1)


Frames = list[memoryview]
MALFORMED: tuple[tuple[Callable[[Frames], Frames], str, str], ...] = (
    (lambda f: f[:1], "0 bytes of a block", "no bytes"),
    (lambda f: [f[0][:-1], f[1]], "header of", "a header cut short"),
    (lambda f: [f[0], f[1][:-1]], "are announced", "bytes cut short"),
    (lambda f: [f[0], f[1], memoryview(b"x")], "are announced", "a byte too many"),
)


@pytest.mark.parametrize(("change", "reason", "case"), MALFORMED, ids=[m[2] for m in MALFORMED])
def test_what_is_malformed_is_refused(
    change: Callable[[Frames], Frames], reason: str, case: str
) -> None:
    with pytest.raises(WireError, match=reason):
        decode_block(change(frames_of(block_of(1, 0))), 1, SHAPE)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (replace(SHAPE, dtype=torch.bfloat16), "not"),
        (replace(SHAPE, num_kv_heads=1), "not"),
        (replace(SHAPE, head_dim=16), "not"),
        (replace(SHAPE, num_layers=5), "layers from 3 on"),
    ],
)
def test_a_block_of_another_model_is_refused(shape: KvShape, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        decode_block(frames_of(block_of(1, 0)), 1, shape)


def test_no_random_bytes_crash_the_decoder() -> None:
    chance = random.Random(4)
    for _ in range(1_000):
        frames = frames_of(block_of(1, 0))
        for _ in range(chance.randint(1, 4)):
            frames[0][chance.randrange(len(frames[0]))] = chance.randrange(256)
        try:
            decode_block(frames, 1, SHAPE)
        except WireError:
            continue
