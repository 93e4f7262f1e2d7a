"""Unit files as the doctor reads them: headers first, and the bytes of one of them."""

import mmap
from dataclasses import replace
from pathlib import Path

from deploy.local.doctor.checks import unit_faults
from deploy.local.doctor.reading_nodes import read_nodes, read_unit, read_units
from deploy.local.doctor.values import UnitFile
from libs.common.weights.unitheader import UnitHeader, Word
from libs.common.weights.unitwriter import UnitWriter
from tests.unit.common.weights.builders import random_bytes, unit_of

DATA = random_bytes(3 * 4096 + 100)
UNIT = unit_of(DATA)


def write(folder: Path, num_chunks: int = UNIT.num_chunks) -> UnitWriter:
    writer = UnitWriter.create(folder / UNIT.digest, UNIT)
    for index in range(num_chunks):
        extent = UNIT.chunk_range(index)
        writer.begin_chunk(index)
        writer.chunk_view(index)[:] = DATA[extent.start : extent.end]
        writer.commit_chunk(index)
    return writer


def faults(unit: UnitFile | None) -> list[str]:
    assert unit is not None
    return list(unit_faults(unit))


def test_a_complete_unit_is_hashed_and_right(tmp_path: Path) -> None:
    write(tmp_path)

    (unit,) = read_units(tmp_path, lambda count: 0)

    whole = UNIT.size_bytes
    assert unit == UnitFile(UNIT.digest, None, True, whole, whole, whole, UNIT.digest)
    assert not faults(unit)


def test_a_unit_under_way_is_not_hashed(tmp_path: Path) -> None:
    write(tmp_path, num_chunks=2)

    (unit,) = read_units(tmp_path, lambda count: 0)

    assert (unit.is_complete, unit.verified_bytes, unit.computed_digest) == (False, 8192, None)
    assert not faults(unit)


def test_one_wrong_byte_is_found(tmp_path: Path) -> None:
    writer = write(tmp_path)
    writer.chunk_view(1)[7] ^= 1

    (unit,) = read_units(tmp_path, lambda count: 0)

    (fault,) = faults(unit)
    assert fault.startswith("its bytes have the digest")


def test_bytes_that_are_readable_before_their_chunk_is_verified_are_found(tmp_path: Path) -> None:
    write(tmp_path, num_chunks=1)
    path = tmp_path / UNIT.digest
    with path.open("r+b") as file:
        UnitHeader(memoryview(mmap.mmap(file.fileno(), 0)))[Word.VERIFIED_BYTES] = 8192

    assert faults(read_unit(path)) == ["8192 bytes readable, 4096 verified"]


def test_another_units_file_is_found(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / UNIT.digest).rename(tmp_path / ("0" * 64))

    (unit,) = read_units(tmp_path, lambda count: 0)

    assert faults(unit) == [f"it holds unit {UNIT.digest}"]


def test_what_is_no_unit_is_left_alone(tmp_path: Path) -> None:
    for name in (".warm-1", f"{UNIT.digest}.unfinished", "nic.ledger"):
        (tmp_path / name).write_bytes(b"")

    assert read_units(tmp_path, lambda count: 0) == ()
    assert read_unit(tmp_path / UNIT.digest) is None, "evicted meanwhile"


def test_a_file_that_is_too_short_is_found(tmp_path: Path) -> None:
    (tmp_path / UNIT.digest).write_bytes(b"HYDRUNIT")

    assert faults(read_unit(tmp_path / UNIT.digest)) == ["it is too short for a unit file"]


def test_a_folder_without_a_stack_has_no_nodes(tmp_path: Path) -> None:
    assert read_nodes(tmp_path) == ()


def test_a_digest_that_nobody_computed_is_no_fault(tmp_path: Path) -> None:
    write(tmp_path)
    unit = read_unit(tmp_path / UNIT.digest)

    assert unit is not None and not faults(replace(unit, computed_digest=None))
