"""The header of a unit file: how a fetcher and its readers share one unit without a message.

A unit file lies in shared memory. Its first pages are this header, then comes the unit, byte for
byte as in the object store. Every field is one aligned 64-bit word, so that the CPU reads and
writes it in one piece; after the words comes one byte per chunk. Only the fetcher writes.

`VERIFIED_BYTES` is stored after the data it speaks of. x86-64 makes stores visible in program
order, and this relies on it: fetchers and agents refuse to start elsewhere (`store_order.py`).
Stdlib only.
"""

import os
from enum import IntEnum

MAGIC = int.from_bytes(b"HYDRUNIT", "little")
FORMAT_VERSION = 1
PAGE_BYTES = 4096
WORD_BYTES = 8
CHUNK_STATES_OFFSET = 256
HEARTBEAT_LOST_NS = 2_000_000_000  # a silence this long means the writer is gone
DIGEST_WORDS = 4


class Word(IntEnum):
    """Index of each 64-bit word."""

    MAGIC = 0
    VERSION = 1
    HEADER_BYTES = 2  # where the data begins; a multiple of the page size
    SIZE_BYTES = 3
    CHUNK_SIZE_BYTES = 4
    DIGEST = 5  # and the three words after it
    WRITER_PID = 9
    WRITER_START_TICKS = 10  # tells a writer from a later process with the same pid
    GENERATION = 11  # grows when another writer takes over
    HEARTBEAT_NS = 12  # CLOCK_MONOTONIC, which all processes of a machine share
    STATE = 13
    ERROR = 14
    VERIFIED_BYTES = 15  # contiguous from the start of the data


class UnitState(IntEnum):
    FETCHING = 1  # the writer adds chunks, or was doing so when it died
    COMPLETE = 2  # all bytes are verified; nothing is written any more
    FAILED = 3  # the writer gave up, see UnitError


class UnitError(IntEnum):
    NONE = 0
    OBJECT_MISSING = 1
    DIGEST_MISMATCH = 2  # the stored bytes are not what the manifest promises
    STORE_UNREACHABLE = 3
    STORE_REFUSED = 4
    MEMORY_CORRUPT = 5  # bytes that were verified have changed in memory

    @property
    def reason(self) -> str:
        return _REASONS[self]


_REASONS = {
    UnitError.NONE: "no error",
    UnitError.OBJECT_MISSING: "the object store has no such object",
    UnitError.DIGEST_MISMATCH: "the stored bytes do not match their digest",
    UnitError.STORE_UNREACHABLE: "the object store cannot be reached",
    UnitError.STORE_REFUSED: "the object store refuses to send it",
    UnitError.MEMORY_CORRUPT: "verified bytes changed in shared memory",
}


class ChunkState(IntEnum):
    ABSENT = 0
    WRITING = 1
    VERIFIED = 2


def num_chunks(size_bytes: int, chunk_size_bytes: int) -> int:
    return -(-size_bytes // chunk_size_bytes)


def header_bytes(size_bytes: int, chunk_size_bytes: int) -> int:
    """Size of the header of such a unit: whole pages."""
    needed = CHUNK_STATES_OFFSET + num_chunks(size_bytes, chunk_size_bytes)
    return -(-needed // PAGE_BYTES) * PAGE_BYTES


class UnitHeader:
    """Typed access to the header at the start of a mapping (bytes-like, writable for writers)."""

    def __init__(self, mapping: memoryview) -> None:
        # A cast view reads and writes a word with one move instruction; struct would not promise.
        self._words = mapping[:CHUNK_STATES_OFFSET].cast("Q")
        self._mapping = mapping

    def __getitem__(self, word: Word) -> int:
        return self._words[word]

    def __setitem__(self, word: Word, value: int) -> None:
        self._words[word] = value

    @property
    def digest(self) -> str:
        first = Word.DIGEST * WORD_BYTES
        return bytes(self._mapping[first : first + DIGEST_WORDS * WORD_BYTES]).hex()

    def set_digest(self, digest: str) -> None:
        first = Word.DIGEST * WORD_BYTES
        self._mapping[first : first + DIGEST_WORDS * WORD_BYTES] = bytes.fromhex(digest)

    @property
    def state(self) -> UnitState:
        return UnitState(self[Word.STATE])

    @property
    def chunk_states(self) -> memoryview:
        count = num_chunks(self[Word.SIZE_BYTES], self[Word.CHUNK_SIZE_BYTES])
        return self._mapping[CHUNK_STATES_OFFSET : CHUNK_STATES_OFFSET + count]

    def is_writer_lost(self, now_ns: int) -> bool:
        return now_ns - self[Word.HEARTBEAT_NS] > HEARTBEAT_LOST_NS

    def fault(self, file_size_bytes: int) -> str | None:
        """What makes this no unit file of ours, or None."""
        if self[Word.MAGIC] != MAGIC:
            return "it is not a unit file"
        if self[Word.VERSION] != FORMAT_VERSION:
            return f"its format is version {self[Word.VERSION]}, this program reads 1"
        size, chunk_size = self[Word.SIZE_BYTES], self[Word.CHUNK_SIZE_BYTES]
        if not size or not chunk_size or self[Word.HEADER_BYTES] != header_bytes(size, chunk_size):
            return "its sizes contradict each other"
        if file_size_bytes != self[Word.HEADER_BYTES] + size:
            return f"it has {file_size_bytes} bytes instead of {self[Word.HEADER_BYTES] + size}"
        if self[Word.STATE] not in tuple(UnitState) or self[Word.VERIFIED_BYTES] > size:
            return "its state is unknown"
        return None


def process_start_ticks(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot, or None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[19])  # field 22 of proc(5); the name before it may hold spaces


def own_start_ticks() -> int:
    ticks = process_start_ticks(os.getpid())
    assert ticks is not None
    return ticks
