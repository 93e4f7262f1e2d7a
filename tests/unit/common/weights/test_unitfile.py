import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.errors import UnitFileError, UnitFileFailed, UnitFileLost, UnitFileTimeout
from libs.common.weights.manifest import UnitEntry
from libs.common.weights.unitfile import UnitReader
from libs.common.weights.unitheader import ChunkState, UnitError, UnitState, Word
from libs.common.weights.unitwriter import UnitWriter, file_size_bytes
from tests.unit.common.weights.builders import random_bytes, unit_of

DATA = random_bytes(3 * 4096 + 100)
UNIT = unit_of(DATA)


def put(writer: UnitWriter, index: int) -> None:
    extent = writer.unit.chunk_range(index)
    writer.begin_chunk(index)
    writer.chunk_view(index)[:] = DATA[extent.start : extent.end]
    writer.commit_chunk(index)


def put_all(writer: UnitWriter) -> None:
    for index in range(writer.unit.num_chunks):
        put(writer, index)


def open_reader(path: Path, unit: UnitEntry = UNIT) -> UnitReader:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return UnitReader(descriptor, digest=unit.digest, size_bytes=unit.size_bytes)
    finally:
        os.close(descriptor)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "unit"


@pytest.fixture
def writer(path: Path) -> Iterator[UnitWriter]:
    yield UnitWriter.create(path, UNIT)


def soon() -> float:
    return time.monotonic() + 5


def test_the_readable_prefix_grows_only_over_contiguous_chunks(
    path: Path, writer: UnitWriter
) -> None:
    reader = open_reader(path)

    put(writer, 1)
    assert reader.verified_bytes == 0
    put(writer, 0)
    assert reader.verified_bytes == 2 * 4096
    put(writer, 3)
    put(writer, 2)

    assert reader.is_complete
    assert bytes(reader.data) == DATA


def test_a_reader_waits_for_bytes_that_arrive_later(path: Path, writer: UnitWriter) -> None:
    reader = open_reader(path)
    thread = threading.Thread(target=put_all, args=(writer,))

    thread.start()
    reader.wait_complete(soon())
    thread.join()

    assert bytes(reader.data) == DATA


def test_memory_is_reserved_before_the_file_is_visible(path: Path, writer: UnitWriter) -> None:
    stat = path.stat()

    assert stat.st_size == file_size_bytes(UNIT)
    assert stat.st_blocks * 512 >= stat.st_size
    assert stat.st_mode & 0o777 == 0o600


def test_a_reader_cannot_write(path: Path, writer: UnitWriter) -> None:
    with pytest.raises(TypeError, match="read-only"):
        open_reader(path).data[0] = 1


def test_a_failed_unit_tells_its_readers_why(path: Path, writer: UnitWriter) -> None:
    reader = open_reader(path)

    writer.fail(UnitError.DIGEST_MISMATCH)

    with pytest.raises(UnitFileFailed, match="do not match their digest"):
        reader.wait_prefix(1, soon())


def test_a_deadline_that_passes_says_how_far_it_came(path: Path, writer: UnitWriter) -> None:
    put(writer, 0)

    with pytest.raises(UnitFileTimeout, match=f"4096 of {len(DATA)} bytes"):
        open_reader(path).wait_complete(time.monotonic() - 1)


def test_a_silent_writer_is_reported_as_lost(path: Path, writer: UnitWriter) -> None:
    reader = open_reader(path)
    assert not reader.is_writer_lost

    writer._header[Word.HEARTBEAT_NS] -= 3_000_000_000  # as if it had been silent for three seconds

    assert reader.is_writer_lost
    with pytest.raises(UnitFileLost):
        reader.wait_prefix(1, time.monotonic() - 1)


def test_a_new_writer_goes_on_in_the_same_file(path: Path, writer: UnitWriter) -> None:
    reader, inode = open_reader(path), path.stat().st_ino
    put(writer, 0)
    writer.begin_chunk(1)
    del writer

    successor = UnitWriter.reopen(path, UNIT)
    states = [successor.chunk_state(index) for index in range(4)]
    for index in (1, 2, 3):
        put(successor, index)

    assert states == [ChunkState.VERIFIED, *[ChunkState.ABSENT] * 3]
    assert path.stat().st_ino == inode
    assert reader.generation == 2
    assert bytes(reader.data) == DATA


def test_a_prefix_that_lags_behind_its_chunks_is_settled(path: Path, writer: UnitWriter) -> None:
    put_all(writer)
    writer._header[Word.VERIFIED_BYTES] = 0  # killed between two stores
    writer._header[Word.STATE] = UnitState.FETCHING

    successor = UnitWriter.reopen(path, UNIT)
    successor.settle()

    assert successor.is_complete


def test_another_units_file_is_refused(path: Path, writer: UnitWriter) -> None:
    other = unit_of(random_bytes(len(DATA), seed=1))

    with pytest.raises(UnitFileError, match="it holds unit"):
        open_reader(path, other)
    with pytest.raises(UnitFileError, match="it holds unit"):
        UnitWriter.reopen(path, other)


@pytest.mark.parametrize(
    "content", [b"", b"x" * 100, b"\0" * 20000], ids=["empty", "short", "no magic"]
)
def test_a_file_that_is_no_unit_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises(UnitFileError):
        open_reader(path)
