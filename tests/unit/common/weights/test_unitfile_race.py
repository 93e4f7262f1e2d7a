"""Readers beside a writer: nobody ever sees a byte that was not verified."""

import os
import random
import threading
import time
from pathlib import Path

from libs.common.weights.unitfile import UnitReader
from libs.common.weights.unitwriter import UnitWriter
from tests.unit.common.weights.builders import random_bytes, unit_of

DATA = random_bytes(300 * 4096 + 17)
UNIT = unit_of(DATA)


def write_in_any_order(writer: UnitWriter) -> None:
    """Each chunk holds rubbish for a while before it holds the truth."""
    order = list(range(UNIT.num_chunks))
    random.Random(1).shuffle(order)
    for index in order:
        extent, view = UNIT.chunk_range(index), writer.chunk_view(index)
        writer.begin_chunk(index)
        view[:] = b"\xaa" * extent.nbytes
        view[:] = DATA[extent.start : extent.end]
        writer.commit_chunk(index)


def read_beside(reader: UnitReader, wrong: list[int]) -> None:
    seen = 0
    while seen < len(DATA):
        reader.wait_prefix(min(seen + 1, len(DATA)), time.monotonic() + 30)
        readable = reader.verified_bytes
        if bytes(reader.data[seen:readable]) != DATA[seen:readable]:
            wrong.append(seen)
        seen = readable


def test_a_reader_sees_verified_bytes_only(tmp_path: Path) -> None:
    writer = UnitWriter.create(tmp_path / "unit", UNIT)
    descriptor = os.open(tmp_path / "unit", os.O_RDONLY)
    reader = UnitReader(descriptor, digest=UNIT.digest, size_bytes=len(DATA))
    os.close(descriptor)
    wrong: list[int] = []
    readers = [threading.Thread(target=read_beside, args=(reader, wrong)) for _ in range(3)]
    writers = threading.Thread(target=write_in_any_order, args=(writer,))

    for thread in (*readers, writers):
        thread.start()
    for thread in (*readers, writers):
        thread.join(timeout=60)

    assert wrong == []
    assert reader.is_complete
