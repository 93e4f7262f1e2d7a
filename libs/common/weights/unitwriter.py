"""Writing a unit into shared memory: the fetcher's side of a unit file."""

import contextlib
import mmap
import os
import threading
import time
from pathlib import Path

from libs.common.errors import UnitFileError
from libs.common.weights.manifest import UnitEntry
from libs.common.weights.sharedpages import SharedPages
from libs.common.weights.unitheader import (
    CHUNK_STATES_OFFSET,
    FORMAT_VERSION,
    MAGIC,
    ChunkState,
    UnitError,
    UnitHeader,
    UnitState,
    Word,
    header_bytes,
    own_start_ticks,
)

PARTIAL_SUFFIX = ".partial"


def file_size_bytes(unit: UnitEntry) -> int:
    """What a unit costs in shared memory: its header and itself."""
    return header_bytes(unit.size_bytes, unit.chunk_size_bytes) + unit.size_bytes


class UnitWriter:
    """One unit file, mapped for writing. Methods may be called from several threads.

    Exactly one process writes; the folder is its own (0700) and the file 0600.
    """

    def __init__(self, path: Path, mapping: memoryview, unit: UnitEntry) -> None:
        self.path, self.unit = path, unit
        self._header = UnitHeader(mapping)
        self._data = mapping[header_bytes(unit.size_bytes, unit.chunk_size_bytes) :]
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path, unit: UnitEntry, pages: SharedPages | None = None) -> "UnitWriter":
        """A new file with all its memory reserved, visible under `path` once it is consistent.

        `pages` are large enough and nobody else's. Raises OSError with ENOSPC when shared memory
        is full, instead of a SIGBUS later.
        """
        size_bytes = file_size_bytes(unit)
        if pages is None:
            partial = path.with_name(path.name + PARTIAL_SUFFIX)
            partial.unlink(missing_ok=True)
            pages = SharedPages(partial, size_bytes)
        try:
            pages.cut(size_bytes)
            writer = cls(path, memoryview(pages.mapping)[:size_bytes], unit)
            writer._initialise()
            pages.path.rename(path)
            return writer
        except BaseException:
            pages.discard()
            raise

    @classmethod
    def reopen(cls, path: Path, unit: UnitEntry) -> "UnitWriter":
        """Take over the file that an earlier writer left, in place: readers keep their mapping.

        The caller hashes what the header calls verified before it goes on, then calls `settle`.
        Raises UnitFileError if the file is not this unit's.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            size = os.fstat(descriptor).st_size
            if size != file_size_bytes(unit):
                raise UnitFileError(f"unit file {unit.digest}: it has {size} bytes")
            writer = cls(path, memoryview(mmap.mmap(descriptor, size)), unit)
        finally:
            os.close(descriptor)
        writer._check_identity(size)
        writer._take_over()
        return writer

    def chunk_view(self, index: int) -> memoryview:
        """Where chunk `index` belongs, writable."""
        extent = self.unit.chunk_range(index)
        return self._data[extent.start : extent.end]

    def chunk_state(self, index: int) -> ChunkState:
        return ChunkState(self._header.chunk_states[index])

    def first_absent_chunk(self) -> int | None:
        index = bytes(self._header.chunk_states).find(ChunkState.ABSENT)
        return None if index < 0 else index

    @property
    def is_written_to(self) -> bool:
        """Some thread has begun a chunk and not yet committed or abandoned it."""
        return ChunkState.WRITING in self._header.chunk_states

    def begin_chunk(self, index: int) -> None:
        self._header.chunk_states[index] = ChunkState.WRITING

    def abandon_chunk(self, index: int) -> None:
        self._header.chunk_states[index] = ChunkState.ABSENT

    def commit_chunk(self, index: int) -> None:
        """The chunk's bytes are in place and match their digest: make them readable."""
        with self._lock:
            self._header.chunk_states[index] = ChunkState.VERIFIED
            self._advance_prefix()

    def settle(self) -> None:
        """Make the prefix agree with the chunk states: a writer may die between the two."""
        with self._lock:
            self._advance_prefix()

    @property
    def verified_bytes(self) -> int:
        return self._header[Word.VERIFIED_BYTES]

    @property
    def generation(self) -> int:
        return self._header[Word.GENERATION]

    @property
    def state(self) -> UnitState:
        return self._header.state

    @property
    def is_complete(self) -> bool:
        return self.state is UnitState.COMPLETE

    def fail(self, error: UnitError) -> None:
        """Tell every reader that this unit will not come."""
        self._header[Word.ERROR] = error
        self._header[Word.STATE] = UnitState.FAILED

    def beat(self) -> None:
        """Show readers that the writer lives; due well within two seconds."""
        self._header[Word.HEARTBEAT_NS] = time.monotonic_ns()

    def unlink(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def _initialise(self) -> None:
        header, unit = self._header, self.unit
        header[Word.VERSION] = FORMAT_VERSION
        header[Word.HEADER_BYTES] = header_bytes(unit.size_bytes, unit.chunk_size_bytes)
        header[Word.SIZE_BYTES] = unit.size_bytes
        header[Word.CHUNK_SIZE_BYTES] = unit.chunk_size_bytes
        header.set_digest(unit.digest)
        self._sign()
        header[Word.MAGIC] = MAGIC

    def _check_identity(self, size_bytes: int) -> None:
        header = self._header
        fault = header.fault(size_bytes)
        if fault is None and header.digest != self.unit.digest:
            fault = f"it holds unit {header.digest}"
        if fault is None and header[Word.CHUNK_SIZE_BYTES] != self.unit.chunk_size_bytes:
            fault = "its chunks have another size"
        if fault is not None:
            raise UnitFileError(f"unit file {self.unit.digest}: {fault}")

    def _take_over(self) -> None:
        for index in range(self.unit.num_chunks):
            if self.chunk_state(index) is ChunkState.WRITING:
                self.abandon_chunk(index)
        self._sign()

    def _sign(self) -> None:
        """Become the writer: from here on the heartbeat and the generation are ours."""
        header = self._header
        header[Word.WRITER_PID] = os.getpid()
        header[Word.WRITER_START_TICKS] = own_start_ticks()
        header[Word.ERROR] = UnitError.NONE
        self.beat()
        header[Word.GENERATION] += 1
        if header[Word.STATE] != UnitState.COMPLETE:
            header[Word.STATE] = UnitState.FETCHING

    def _advance_prefix(self) -> None:
        states, unit = self._header.chunk_states, self.unit
        index = -(-self.verified_bytes // unit.chunk_size_bytes)
        while index < unit.num_chunks and states[index] == ChunkState.VERIFIED:
            index += 1
        readable = min(index * unit.chunk_size_bytes, unit.size_bytes)
        self._header[Word.VERIFIED_BYTES] = readable
        if readable == unit.size_bytes:
            self._header[Word.STATE] = UnitState.COMPLETE


assert CHUNK_STATES_OFFSET >= (max(Word) + 1) * 8
