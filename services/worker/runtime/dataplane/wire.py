"""What one hop carries: a packed header, and the hidden states as the raw bytes of their tensor.

A message is a header frame and the hidden states, cut into frames. The header is fixed fields, the
moves, the pieces and the exports; its size follows from its counts, and that of the hidden states
from rows and bytes per row. A notice is one frame: fixed fields, and JSON. All integers are
little-endian, as is every machine that this runs on. Nothing is read before its size is checked.

Hidden states are cut because ZeroMQ takes a frame for a sign of life only once it is whole: one of
8 MB would look like a dead neighbour on a link that has 50 Mbit/s left for it.
"""

import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

from libs.common.strict_json import JsonFieldError, parse_object
from services.worker.engine.execution.microbatch import KvExport, MicroBatch, Piece, SlotMove
from services.worker.engine.execution.notices import KvInletOpened, Notice, RingClosed
from services.worker.frames.codec import reader_for, to_json
from services.worker.runtime.dataplane.errors import WireError

MAX_HEADER_BYTES: Final = 2**20
MAX_HIDDEN_BYTES: Final = 64 * 2**20  # 1,024 rows of 16,384 float32 values
HIDDEN_FRAME_BYTES: Final = 2**18  # the last one has what is left
MAX_FRAME_BYTES: Final = max(MAX_HEADER_BYTES, HIDDEN_FRAME_BYTES)
MAX_NOTICE_BYTES: Final = 2**16  # the keys of some hundred stages
KEY_LENGTH: Final = 40  # of a key as ZeroMQ writes it

_ADDRESS: Final = r"tcp://[\x21-\x7e]{3,200}"

_MAGIC: Final = b"HSD3"  # the last character is the format's version
_HELLO: Final = 1
_BATCH: Final = 2
_NOTICES: Final[dict[int, type]] = {3: KvInletOpened, 4: RingClosed}  # by kind
# magic, kind, sender's stage, moves, pieces, exports, rows, bytes per row, number
_FIXED: Final = struct.Struct("<4sBxHIIIIIQ")
_MOVE: Final = struct.Struct("<III")  # source, target, length
_PIECE: Final = struct.Struct("<IIIB3x")  # region start, position, length, is sampled
_EXPORT: Final = struct.Struct("<QIII")  # id, region start, start, length


@dataclass(frozen=True)
class Hop:
    """A micro-batch and `[rows, row_bytes]` bytes of hidden states on the host."""

    batch: MicroBatch
    row_bytes: int
    hidden: memoryview


def encode_hello(stage: int) -> bytes:
    """The first message on a link: who speaks, in which version."""
    return _FIXED.pack(_MAGIC, _HELLO, stage, 0, 0, 0, 0, 0, 0)


def decode_hello(frame: memoryview) -> int:
    """The sender's stage. Raises WireError."""
    if len(frame) != _FIXED.size:
        raise WireError(f"a hello has {_FIXED.size} bytes, not {len(frame)}")
    magic, kind, stage, *_ = _FIXED.unpack(frame)
    if (magic, kind) != (_MAGIC, _HELLO):
        raise WireError(f"no hello: {bytes(frame[:5])!r}")
    return int(stage)


def encode_header(batch: MicroBatch, stage: int, row_bytes: int, hidden_bytes: int) -> bytes:
    """The first frame of a hop; `hidden_frames` are the others."""
    rows, rest = divmod(hidden_bytes, row_bytes)
    assert rest == 0, "hidden states are whole rows"
    counts = (len(batch.moves), len(batch.pieces), len(batch.exports))
    parts = [_FIXED.pack(_MAGIC, _BATCH, stage, *counts, rows, row_bytes, batch.number)]
    parts += [_MOVE.pack(move.source, move.target, move.length) for move in batch.moves]
    parts += [
        _PIECE.pack(piece.region_start, piece.position, piece.length, piece.is_sampled)
        for piece in batch.pieces
    ]
    parts += [_EXPORT.pack(e.export_id, e.region_start, e.start, e.length) for e in batch.exports]
    return b"".join(parts)


def encode_notice(notice: Notice, stage: int) -> bytes:
    """The only frame of a notice."""
    kind = next(kind for kind, cls in _NOTICES.items() if isinstance(notice, cls))
    body = json.dumps(to_json(notice), separators=(",", ":")).encode()
    assert len(body) <= MAX_NOTICE_BYTES
    return _FIXED.pack(_MAGIC, kind, stage, 0, 0, 0, 0, 0, len(body)) + body


def hidden_frames(hidden: memoryview) -> list[memoryview]:
    """Views of all its bytes in order; one at least."""
    starts = range(0, max(1, hidden.nbytes), HIDDEN_FRAME_BYTES)
    return [hidden[start : start + HIDDEN_FRAME_BYTES] for start in starts]


def decode(frames: list[memoryview], stage: int) -> Hop | Notice:
    """What `stage` sent. Raises WireError for anything else."""
    header, *parts = frames
    if not _FIXED.size <= len(header) <= MAX_HEADER_BYTES:
        raise WireError(f"a header of {len(header)} bytes")
    magic, kind, sender, *_ = _FIXED.unpack_from(header)
    if (magic, sender) != (_MAGIC, stage) or kind not in (_BATCH, *_NOTICES):
        raise WireError(f"no hop of stage {stage}: {bytes(header[:8])!r}")
    if kind in _NOTICES:
        if parts:
            raise WireError(f"a notice of {len(frames)} frames")
        return _notice(_NOTICES[kind], header)
    return _hop(header, parts)


def _notice(cls: type, frame: memoryview) -> Notice:
    body = bytes(frame[_FIXED.size :])
    if len(body) > MAX_NOTICE_BYTES:
        raise WireError(f"a notice of {len(body)} bytes, the limit is {MAX_NOTICE_BYTES}")
    try:
        document = parse_object(body, name="notice")
        notice = cast("Notice", reader_for(cls)(document.values, "notice"))
    except JsonFieldError as exc:
        raise WireError(f"a malformed notice: {exc}") from exc
    if isinstance(notice, KvInletOpened):
        _check_inlet(notice)
    return notice


def _check_inlet(notice: KvInletOpened) -> None:
    """What stands in it goes into calls of ZeroMQ."""
    keys = [notice.public_key, *(key.public_key for key in notice.sender_keys)]
    if not re.fullmatch(_ADDRESS, notice.address) or not all(map(_is_key, keys)):
        raise WireError("a notice whose address or keys are none")


def _is_key(key: str) -> bool:
    return len(key) == KEY_LENGTH and key.isascii() and key.isprintable()


def _hop(header: memoryview, parts: list[memoryview]) -> Hop:
    fields = _FIXED.unpack_from(header)
    num_moves, num_pieces, num_exports, rows, row_bytes, number = fields[3:]
    _check_header(header, num_moves, num_pieces, num_exports)
    _check_hidden(parts, rows * row_bytes)
    hidden = parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
    moves_end = _FIXED.size + num_moves * _MOVE.size
    pieces_end = moves_end + num_pieces * _PIECE.size
    moves = _MOVE.iter_unpack(header[_FIXED.size : moves_end])
    exports = _EXPORT.iter_unpack(header[pieces_end:])
    batch = MicroBatch(
        number,
        tuple(SlotMove(*fields) for fields in moves),
        tuple(_pieces(header[moves_end:pieces_end])),
        tuple(KvExport(*fields) for fields in exports),
    )
    return Hop(batch, row_bytes, hidden)


def _check_header(header: memoryview, num_moves: int, num_pieces: int, num_exports: int) -> None:
    counted_bytes = num_moves * _MOVE.size + num_pieces * _PIECE.size + num_exports * _EXPORT.size
    if len(header) != _FIXED.size + counted_bytes:
        raise WireError(
            f"a header of {len(header)} bytes for {num_moves} moves, {num_pieces} pieces and "
            f"{num_exports} exports, which take {_FIXED.size + counted_bytes}"
        )


def _check_hidden(parts: list[memoryview], hidden_bytes: int) -> None:
    found_bytes = sum(len(part) for part in parts)
    if found_bytes != hidden_bytes:
        raise WireError(f"{found_bytes} bytes of hidden states where {hidden_bytes} are announced")
    if hidden_bytes > MAX_HIDDEN_BYTES:
        raise WireError(f"{hidden_bytes} bytes of hidden states, the limit is {MAX_HIDDEN_BYTES}")
    num_frames = max(1, -(-hidden_bytes // HIDDEN_FRAME_BYTES))
    if len(parts) != num_frames:
        raise WireError(f"a hop has {1 + num_frames} frames here, not {1 + len(parts)}")


def _pieces(data: memoryview) -> Iterator[Piece]:
    for region_start, position, length, flag in _PIECE.iter_unpack(data):
        if flag not in (0, 1):
            raise WireError(f"a flag of {flag}")
        yield Piece(region_start, position, length, bool(flag))
