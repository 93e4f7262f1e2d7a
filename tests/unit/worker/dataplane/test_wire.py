"""The bytes of a hop: nothing is lost on the way, and nothing malformed is taken for a hop."""

import random
import struct

import pytest

from services.worker.engine.execution.microbatch import MicroBatch, Piece
from services.worker.engine.execution.notices import (
    KvInletOpened,
    Notice,
    RingClosed,
    SenderKey,
)
from services.worker.runtime.dataplane.errors import WireError
from services.worker.runtime.dataplane.wire import (
    HIDDEN_FRAME_BYTES,
    KEY_LENGTH,
    MAX_HIDDEN_BYTES,
    MAX_NOTICE_BYTES,
    Hop,
    decode,
    decode_hello,
    encode_header,
    encode_hello,
    encode_notice,
    hidden_frames,
)
from tests.unit.worker.dataplane.ring import ROW_BYTES, random_message

BATCH = MicroBatch(7, (), (Piece(10, 0, 2, False), Piece(30, 5, 1, True)))
HIDDEN = bytes(range(12)) * 3
FIXED_BYTES = 36


def frames(header: bytes, hidden: bytes = HIDDEN) -> list[memoryview]:
    return [memoryview(header), *hidden_frames(memoryview(hidden))]


def header(batch: MicroBatch = BATCH) -> bytes:
    return encode_header(batch, stage=3, row_bytes=12, hidden_bytes=len(HIDDEN))


def test_what_is_encoded_comes_back_equal() -> None:
    chance = random.Random(1)
    for number in range(200):
        batch, hidden = random_message(chance, number)
        packed = encode_header(batch, 2, ROW_BYTES, len(hidden))

        hop = decode(frames(packed, hidden), stage=2)

        assert isinstance(hop, Hop)
        assert (hop.batch, hop.row_bytes, bytes(hop.hidden)) == (batch, ROW_BYTES, hidden)


@pytest.mark.parametrize("num_bytes", [0, HIDDEN_FRAME_BYTES, HIDDEN_FRAME_BYTES + 4, 9_999_996])
def test_long_hidden_states_travel_in_frames_that_are_short_signs_of_life(num_bytes: int) -> None:
    hidden = random.Random(num_bytes).randbytes(num_bytes)
    packed = encode_header(BATCH, 3, 4, num_bytes)

    parts = hidden_frames(memoryview(hidden))
    hop = decode([memoryview(packed), *parts], stage=3)

    assert isinstance(hop, Hop)
    assert max(len(part) for part in parts) <= HIDDEN_FRAME_BYTES
    assert bytes(hop.hidden) == hidden


NOTICES = (
    KvInletOpened("tcp://10.0.0.7:4711", "k" * KEY_LENGTH),
    KvInletOpened(
        "tcp://10.0.0.7:4711",
        "k" * KEY_LENGTH,
        tuple(SenderKey(stage, str(stage) * KEY_LENGTH) for stage in range(1, 8)),
    ),
    RingClosed(3),
)


@pytest.mark.parametrize("notice", NOTICES, ids=repr)
def test_a_notice_comes_back_equal(notice: Notice) -> None:
    assert decode([memoryview(encode_notice(notice, 3))], stage=3) == notice


BAD_NOTICES = (
    (encode_notice(NOTICES[0], 2), "no hop of stage 3", "another stage's"),
    (encode_notice(NOTICES[0], 3)[:-1], "malformed notice", "cut short"),
    (encode_notice(RingClosed(3), 3) + b" " * MAX_NOTICE_BYTES, "the limit is", "too long"),
    (encode_notice(KvInletOpened("http://x", "k" * 40), 3), "none", "no address of ours"),
    (encode_notice(KvInletOpened("tcp://x:1", "k" * 39), 3), "none", "no key"),
    (encode_notice(KvInletOpened("tcp://x:1", "\0" * 40), 3), "none", "a key not of letters"),
)


@pytest.mark.parametrize(
    ("frame", "reason", "case"), BAD_NOTICES, ids=[case for *_, case in BAD_NOTICES]
)
def test_a_notice_that_no_stage_sends_is_refused(frame: bytes, reason: str, case: str) -> None:
    with pytest.raises(WireError, match=reason):
        decode([memoryview(frame)], stage=3)


def test_a_notice_has_one_frame() -> None:
    with pytest.raises(WireError, match="2 frames"):
        decode([memoryview(encode_notice(RingClosed(2), 3)), memoryview(b"")], stage=3)


def test_no_random_bytes_of_a_notice_crash_the_decoder() -> None:
    chance = random.Random(3)
    for _ in range(2_000):
        damaged = bytearray(encode_notice(NOTICES[1], 3))
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            decode([memoryview(damaged)], stage=3)
        except WireError:
            continue


def test_more_than_any_step_computes_is_refused() -> None:
    hidden = memoryview(bytes(MAX_HIDDEN_BYTES + 4))
    message = [memoryview(encode_header(BATCH, 3, 4, len(hidden))), *hidden_frames(hidden)]

    with pytest.raises(WireError, match="the limit is"):
        decode(message, stage=3)


def test_a_hello_says_the_stage() -> None:
    assert decode_hello(memoryview(encode_hello(5))) == 5


def _with(offset: int, fmt: str, value: object) -> bytes:
    changed = bytearray(header())
    struct.pack_into(fmt, changed, offset, value)
    return bytes(changed)


MALFORMED = (
    (frames(b""), "header of 0 bytes", "empty"),
    (frames(header()[: FIXED_BYTES - 1]), "header of 35 bytes", "cut in its fixed part"),
    (frames(header()[:-1]), "0 moves, 2 pieces and 0 exports", "cut in its last piece"),
    (frames(header() + b"x"), "0 moves, 2 pieces and 0 exports", "longer than its counts"),
    (frames(_with(0, "4s", b"HTTP")), "no hop of stage 3", "another protocol"),
    (frames(_with(0, "4s", b"HSD1")), "no hop of stage 3", "another version"),
    (frames(_with(6, "<H", 2)), "no hop of stage 3", "another stage"),
    (frames(encode_hello(3)), "no hop of stage 3", "a second hello"),
    (frames(_with(8, "<I", 2**32 - 1)), "4294967295 moves", "more moves than bytes"),
    (frames(_with(12, "<I", 2**32 - 1)), "4294967295 pieces", "more pieces than bytes"),
    (frames(_with(16, "<I", 4)), "2 pieces and 4 exports", "more exports than bytes"),
    (frames(_with(20, "<I", 4)), "36 bytes .* where 48", "more rows than bytes"),
    (frames(_with(24, "<I", 2**32 - 1)), "are announced", "rows too wide"),
    (frames(_with(FIXED_BYTES + 12, "<B", 2)), "flag of 2", "a flag that is none"),
    (frames(header(), HIDDEN[:-1]), "35 bytes", "hidden states cut short"),
    (frames(header())[:1], "0 bytes of hidden states where 36", "no hidden states"),
    ([*frames(header()), memoryview(b"")], "2 frames here, not 3", "a frame too many"),
)


@pytest.mark.parametrize(("message", "reason", "case"), MALFORMED, ids=[c for *_, c in MALFORMED])
def test_what_is_malformed_is_refused(message: list[memoryview], reason: str, case: str) -> None:
    with pytest.raises(WireError, match=reason):
        decode(message, stage=3)


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
            decode(frames(bytes(damaged)), stage=3)
        except WireError:
            continue
