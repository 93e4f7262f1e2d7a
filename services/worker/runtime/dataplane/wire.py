"""What one hop carries: a packed header, and the hidden states as the raw bytes of their tensor.

A message is a header frame and the hidden states, cut into frames. The header is fixed fields, the
moves and the pieces; its size follows from its counts, and that of the hidden states from rows
and bytes per row. All integers are little-endian, as is every machine that this runs on. Nothing is
read before its size is checked.

Hidden states are cut because ZeroMQ takes a frame for a sign of life only once it is whole: one of
8 MB would look like a dead neighbour on a link that has 50 Mbit/s left for it.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from services.worker.engine.execution.microbatch import MicroBatch, Piece, SlotMove
from services.worker.runtime.dataplane.errors import WireError

MAX_HEADER_BYTES: Final = 2**20
MAX_HIDDEN_BYTES: Final = 64 * 2**20  # 1,024 rows of 16,384 float32 values
HIDDEN_FRAME_BYTES: Final = 2**18  # the last one has what is left
MAX_FRAME_BYTES: Final = max(MAX_HEADER_BYTES, HIDDEN_FRAME_BYTES)

_MAGIC: Final = b"HSD2"  # the last character is the format's version
_HELLO: Final = 1
_BATCH: Final = 2
# magic, kind, sender's stage, moves, pieces, rows, bytes per row, number
_FIXED: Final = struct.Struct("<4sBxHIIIIQ")
_MOVE: Final = struct.Struct("<III")  # source, target, length
_PIECE: Final = struct.Struct("<IIIB3x")  # region start, position, length, is sampled


@dataclass(frozen=True)
class Hop:
    """A micro-batch and `[rows, row_bytes]` bytes of hidden states on the host."""

    batch: MicroBatch
    row_bytes: int
    hidden: memoryview


def encode_hello(stage: int) -> bytes:
    """The first message on a link: who speaks, in which version."""
    return _FIXED.pack(_MAGIC, _HELLO, stage, 0, 0, 0, 0, 0)


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
    counts = (len(batch.moves), len(batch.pieces), rows, row_bytes, batch.number)
    parts = [_FIXED.pack(_MAGIC, _BATCH, stage, *counts)]
    parts += [_MOVE.pack(move.source, move.target, move.length) for move in batch.moves]
    parts += [
        _PIECE.pack(piece.region_start, piece.position, piece.length, piece.is_sampled)
        for piece in batch.pieces
    ]
    return b"".join(parts)


def hidden_frames(hidden: memoryview) -> list[memoryview]:
    """Views of all its bytes in order; one at least."""
    starts = range(0, max(1, hidden.nbytes), HIDDEN_FRAME_BYTES)
    return [hidden[start : start + HIDDEN_FRAME_BYTES] for start in starts]


def decode_hop(frames: list[memoryview], stage: int) -> Hop:
    """What `stage` sent. Raises WireError for anything else."""
    header, *parts = frames
    if not _FIXED.size <= len(header) <= MAX_HEADER_BYTES:
        raise WireError(f"a header of {len(header)} bytes")
    magic, kind, sender, num_moves, num_pieces, rows, row_bytes, number = _FIXED.unpack_from(header)
    if (magic, kind, sender) != (_MAGIC, _BATCH, stage):
        raise WireError(f"no hop of stage {stage}: {bytes(header[:8])!r}")
    _check_sizes(header, parts, num_moves, num_pieces, rows * row_bytes)
    hidden = parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
    moves_end = _FIXED.size + num_moves * _MOVE.size
    moves = tuple(
        SlotMove(*fields) for fields in _MOVE.iter_unpack(header[_FIXED.size : moves_end])
    )
    return Hop(MicroBatch(number, moves, tuple(_pieces(header[moves_end:]))), row_bytes, hidden)


def _check_sizes(
    header: memoryview, parts: list[memoryview], num_moves: int, num_pieces: int, hidden_bytes: int
) -> None:
    header_bytes = _FIXED.size + num_moves * _MOVE.size + num_pieces * _PIECE.size
    if len(header) != header_bytes:
        raise WireError(
            f"a header of {len(header)} bytes for {num_moves} moves and {num_pieces} pieces, "
            f"which take {header_bytes}"
        )
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
