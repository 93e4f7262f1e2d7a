"""The bytes of a hop: nothing is lost on the way, and nothing malformed is taken for a hop."""

import random
import struct

import pytest

from services.worker.engine.execution.microbatch import MicroBatch, Piece
from services.worker.runtime.dataplane.errors import WireError
from services.worker.runtime.dataplane.wire import (
    HIDDEN_FRAME_BYTES,
    MAX_HIDDEN_BYTES,
    decode_hello,
    decode_hop,
    encode_header,
    encode_hello,
    hidden_frames,
)
from tests.unit.worker.dataplane.ring import ROW_BYTES, random_message

BATCH = MicroBatch(7, (), (Piece(10, 0, 2, False), Piece(30, 5, 1, True)))
HIDDEN = bytes(range(12)) * 3
FIXED_BYTES = 32


def frames(header: bytes, hidden: bytes = HIDDEN) -> list[memoryview]:
    return [memoryview(header), *hidden_frames(memoryview(hidden))]


def header(batch: MicroBatch = BATCH) -> bytes:
    return encode_header(batch, stage=3, row_bytes=12, hidden_bytes=len(HIDDEN))


def test_what_is_encoded_comes_back_equal() -> None:
    chance = random.Random(1)
    for number in range(200):
        batch, hidden = random_message(chance, number)
        packed = encode_header(batch, 2, ROW_BYTES, len(hidden))

        hop = decode_hop(frames(packed, hidden), stage=2)

        assert (hop.batch, hop.row_bytes, bytes(hop.hidden)) == (batch, ROW_BYTES, hidden)


@pytest.mark.parametrize("num_bytes", [0, HIDDEN_FRAME_BYTES, HIDDEN_FRAME_BYTES + 4, 9_999_996])
def test_long_hidden_states_travel_in_frames_that_are_short_signs_of_life(num_bytes: int) -> None:
    hidden = random.Random(num_bytes).randbytes(num_bytes)
    packed = encode_header(BATCH, 3, 4, num_bytes)

    parts = hidden_frames(memoryview(hidden))
    hop = decode_hop([memoryview(packed), *parts], stage=3)

    assert max(len(part) for part in parts) <= HIDDEN_FRAME_BYTES
    assert bytes(hop.hidden) == hidden


def test_more_than_any_step_computes_is_refused() -> None:
    hidden = memoryview(bytes(MAX_HIDDEN_BYTES + 4))
    message = [memoryview(encode_header(BATCH, 3, 4, len(hidden))), *hidden_frames(hidden)]

    with pytest.raises(WireError, match="the limit is"):
        decode_hop(message, stage=3)


def test_a_hello_says_the_stage() -> None:
    assert decode_hello(memoryview(encode_hello(5))) == 5


def _with(offset: int, fmt: str, value: object) -> bytes:
    changed = bytearray(header())
    struct.pack_into(fmt, changed, offset, value)
    return bytes(changed)


MALFORMED = (
    (frames(b""), "header of 0 bytes", "empty"),
    (frames(header()[: FIXED_BYTES - 1]), "header of 31 bytes", "cut in its fixed part"),
    (frames(header()[:-1]), "0 moves and 2 pieces", "cut in its last piece"),
    (frames(header() + b"x"), "0 moves and 2 pieces", "longer than its counts"),
    (frames(_with(0, "4s", b"HTTP")), "no hop of stage 3", "another protocol"),
    (frames(_with(0, "4s", b"HSD1")), "no hop of stage 3", "another version"),
    (frames(_with(6, "<H", 2)), "no hop of stage 3", "another stage"),
    (frames(encode_hello(3)), "no hop of stage 3", "a second hello"),
    (frames(_with(8, "<I", 2**32 - 1)), "4294967295 moves", "more moves than bytes"),
    (frames(_with(12, "<I", 2**32 - 1)), "4294967295 pieces", "more pieces than bytes"),
    (frames(_with(16, "<I", 4)), "36 bytes .* where 48", "more rows than bytes"),
    (frames(_with(20, "<I", 2**32 - 1)), "are announced", "rows too wide"),
    (frames(_with(FIXED_BYTES + 12, "<B", 2)), "flag of 2", "a flag that is none"),
    (frames(header(), HIDDEN[:-1]), "35 bytes", "hidden states cut short"),
    (frames(header())[:1], "0 bytes of hidden states where 36", "no hidden states"),
    ([*frames(header()), memoryview(b"")], "2 frames here, not 3", "a frame too many"),
)


@pytest.mark.parametrize(("message", "reason", "case"), MALFORMED, ids=[c for *_, c in MALFORMED])
def test_what_is_malformed_is_refused(message: list[memoryview], reason: str, case: str) -> None:
    with pytest.raises(WireError, match=reason):
        decode_hop(message, stage=3)


@pytest.mark.parametrize("frame", [b"", b"HSD1", encode_hello(1) + b"x", header()[:FIXED_BYTES]])
def test_what_is_no_hello_is_refused(frame: bytes) -> None:
    with pytest.raises(WireError):
        decode_hello(memoryview(frame))


def test_no_random_bytes_crash_the_decoder() -> None:
    chance = random.Random(2)
    for _ in range(2_000):
        damaged = bytearray(header())
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            decode_hop(frames(bytes(damaged)), stage=3)
        except WireError:
            continue
