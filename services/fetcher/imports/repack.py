"""Turning tensors of a checkpoint into one unit: a safetensors file of our layout, with digests.

The unit is written to an unnamed scratch file while it is hashed, and uploaded from there: what
was hashed is what is stored, whatever happens to the source meanwhile.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from libs.common.weights.manifest import (
    CHUNK_SIZE_BYTES,
    TENSOR_ALIGNMENT_BYTES,
    TensorEntry,
    UnitEntry,
)
from libs.common.weights.safetensors import Layout, plan_layout
from services.fetcher.imports.architectures import PlannedUnit
from services.fetcher.imports.checkpoint import Checkpoint, StoredTensor

_PIECE_BYTES = 1 << 20
_OWNER_FIELD = "hydraserve.owner"


class DigestingWriter:
    """Writes through to a file and hashes, whole and per chunk."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._whole, self._chunk = blake3(), blake3()
        self._in_chunk = 0
        self._chunk_digests: list[str] = []

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._whole.update(data)
        view = memoryview(data)
        while view:
            part = view[: CHUNK_SIZE_BYTES - self._in_chunk]
            self._chunk.update(part)
            self._in_chunk += len(part)
            view = view[len(part) :]
            if self._in_chunk == CHUNK_SIZE_BYTES:
                self._end_chunk()

    def finish(self) -> tuple[str, tuple[str, ...]]:
        """Digest of everything, and of each chunk."""
        if self._in_chunk:
            self._end_chunk()
        return self._whole.hexdigest(), tuple(self._chunk_digests)

    def _end_chunk(self) -> None:
        self._chunk_digests.append(self._chunk.hexdigest())
        self._chunk, self._in_chunk = blake3(), 0


@dataclass(frozen=True)
class PackedUnit:
    entry: UnitEntry
    file: BinaryIO  # positioned at its start; its bytes are the unit


def layout_of(unit: PlannedUnit, owner: str | None) -> Layout:
    """`owner` is the tenant that alone may use the unit, None where everybody may.

    It is part of the unit's bytes and so of its digest, by which units are stored, cached and
    leased: equal weights of two owners are different units everywhere.
    """
    metadata = {} if owner is None else {_OWNER_FIELD: owner}
    return plan_layout(unit.tensors, alignment=TENSOR_ALIGNMENT_BYTES, metadata=metadata)


def pack_unit(
    planned: PlannedUnit, checkpoint: Checkpoint, scratch_dir: Path, *, owner: str | None
) -> PackedUnit:
    """Blocking. Uses one megabyte of memory and the unit's size of disk; close the file after use.

    Raises ImportRefused when the source changes or cannot be read, OSError for the scratch disk.
    """
    layout = layout_of(planned, owner)
    file = tempfile.TemporaryFile(dir=scratch_dir)
    try:
        digest, chunk_digests = _write(layout, checkpoint, file)
        checkpoint.require_unchanged(placed.spec.name for placed in layout.tensors)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    entry = UnitEntry(
        kind=planned.kind,
        layer_index=planned.layer_index,
        digest=digest,
        size_bytes=layout.size_bytes,
        chunk_size_bytes=CHUNK_SIZE_BYTES,
        chunk_digests=chunk_digests,
        tensors=_entries(layout),
    )
    return PackedUnit(entry, file)


def _write(layout: Layout, checkpoint: Checkpoint, file: BinaryIO) -> tuple[str, tuple[str, ...]]:
    writer, position = DigestingWriter(file), len(layout.header)
    writer.write(layout.header)
    for placed in layout.tensors:
        writer.write(bytes(placed.offset - position))
        for piece in _pieces(checkpoint.tensors[placed.spec.name]):
            writer.write(piece)
        position = placed.end
    return writer.finish()


def _pieces(tensor: StoredTensor) -> Iterator[bytes]:
    for start in range(0, tensor.spec.nbytes, _PIECE_BYTES):
        size = min(_PIECE_BYTES, tensor.spec.nbytes - start)
        yield tensor.file.read(tensor.offset + start, size)


def _entries(layout: Layout) -> tuple[TensorEntry, ...]:
    return tuple(
        TensorEntry(
            name=placed.spec.name,
            dtype=placed.spec.dtype,
            shape=placed.spec.shape,
            offset=placed.offset,
            nbytes=placed.spec.nbytes,
        )
        for placed in layout.tensors
    )
