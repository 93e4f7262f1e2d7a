"""Looking at what an earlier fetcher left in shared memory, without trusting it."""

import mmap
import os
from pathlib import Path

from blake3 import blake3

from libs.common.errors import UnitFileError
from libs.common.weights.manifest import UnitEntry
from libs.common.weights.unitheader import (
    CHUNK_STATES_OFFSET,
    ChunkState,
    UnitError,
    UnitHeader,
    UnitState,
    Word,
)
from libs.common.weights.unitwriter import UnitWriter

_PIECE_BYTES = 8 << 20  # the other threads of the process get their turns between two


def inspect_unit_file(path: Path, digest: str) -> UnitState | None:
    """The state of the unit file `digest` at `path`, or None if it is no such file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        if size < CHUNK_STATES_OFFSET:
            return None
        header = UnitHeader(memoryview(mmap.mmap(descriptor, size, prot=mmap.PROT_READ)))
    finally:
        os.close(descriptor)
    if header.fault(size) is not None or header.digest != digest:
        return None
    return header.state


def is_whole(path: Path) -> bool:
    """Whether the complete unit file holds the bytes that its name, their digest, says.

    Blocking. Needs no manifest, and changes nothing in the file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size_bytes = os.fstat(descriptor).st_size
        mapping = memoryview(mmap.mmap(descriptor, size_bytes, prot=mmap.PROT_READ))
    finally:
        os.close(descriptor)
    header = UnitHeader(mapping)
    if header.fault(size_bytes) is not None or header.state is not UnitState.COMPLETE:
        return False
    hasher = blake3()
    for start in range(header[Word.HEADER_BYTES], size_bytes, _PIECE_BYTES):
        hasher.update(mapping[start : start + _PIECE_BYTES])
    return bool(hasher.hexdigest() == path.name)


def reopen_and_rehash(path: Path, unit: UnitEntry) -> UnitWriter:
    """The unit file of an earlier fetcher, with everything in it that counts hashed. Blocking.

    Raises UnitFileError, and OSError when it is gone.
    """
    writer = UnitWriter.reopen(path, unit)
    rehash(writer)
    return writer


def rehash(writer: UnitWriter) -> None:
    """Compare every chunk that counts as verified with its digest.

    A wrong chunk that nobody can have read is fetched again; one that readers were told about
    spoils the file for good. Raises UnitFileError then, after telling the readers.
    """
    unit = writer.unit
    for index in range(unit.num_chunks):
        if writer.chunk_state(index) is not ChunkState.VERIFIED:
            continue
        if blake3(writer.chunk_view(index)).hexdigest() == unit.chunk_digests[index]:
            continue
        if unit.chunk_range(index).start < writer.verified_bytes:
            writer.fail(UnitError.MEMORY_CORRUPT)
            raise UnitFileError(f"unit {unit.digest}: {UnitError.MEMORY_CORRUPT.reason}")
        writer.abandon_chunk(index)
    writer.settle()
