import mmap
import os
import resource
from pathlib import Path

import pytest

from services.fetcher.hostcache.warm_pages import WarmPages

SIZE = 1 << 20
ROOM = 100 * SIZE


def filled(folder: Path, *sizes: int, max_bytes: int = 4 * SIZE) -> WarmPages:
    warm = WarmPages(folder, max_bytes)
    warm.expect(sizes)
    while warm.fill(ROOM, warm.turn):
        pass
    return warm


def test_pages_are_there_before_they_are_written(tmp_path: Path) -> None:
    pages = filled(tmp_path, SIZE).take(SIZE)
    assert pages is not None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    pages.mapping[:: mmap.PAGESIZE] = bytes(SIZE // mmap.PAGESIZE)

    num_faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert num_faults < SIZE // mmap.PAGESIZE // 2
    assert pages.path.stat().st_blocks * 512 >= SIZE


def test_the_newest_sizes_are_kept_within_the_limit(tmp_path: Path) -> None:
    warm = filled(tmp_path, 3 * SIZE, SIZE, 2 * SIZE)

    assert warm.used_bytes == 3 * SIZE
    assert warm.take(3 * SIZE) is None


def test_what_only_older_units_had_gives_way(tmp_path: Path) -> None:
    warm = filled(tmp_path, SIZE, SIZE, SIZE, SIZE)
    warm.expect([3 * SIZE])

    while warm.fill(ROOM, warm.turn):
        pass

    assert warm.used_bytes == 4 * SIZE
    assert warm.take(3 * SIZE) is not None


def test_what_was_taken_is_made_again(tmp_path: Path) -> None:
    warm = filled(tmp_path, SIZE, SIZE)
    warm.take(SIZE)
    assert warm.used_bytes == SIZE

    assert warm.fill(ROOM, warm.turn)
    assert not warm.fill(ROOM, warm.turn)

    assert warm.used_bytes == 2 * SIZE


@pytest.mark.parametrize(
    ("needed_bytes", "is_taken"),
    [
        pytest.param(SIZE, True, id="as large as needed"),
        pytest.param(SIZE - 100_000, True, id="a little larger"),
        pytest.param(SIZE + 1, False, id="too small"),
        pytest.param(SIZE // 4, False, id="a waste"),
    ],
)
def test_only_what_fits_is_taken(tmp_path: Path, needed_bytes: int, is_taken: bool) -> None:
    warm = filled(tmp_path, SIZE)

    assert (warm.take(needed_bytes) is not None) == is_taken


def test_nothing_is_made_without_room_or_without_a_limit(tmp_path: Path) -> None:
    warm = WarmPages(tmp_path, SIZE)
    warm.expect([SIZE])

    assert not warm.fill(SIZE - 1, warm.turn)
    assert not filled(tmp_path, SIZE, max_bytes=0).used_bytes


def test_a_turn_that_has_ended_makes_nothing(tmp_path: Path) -> None:
    warm = WarmPages(tmp_path, SIZE)
    warm.expect([SIZE])
    turn = warm.turn
    assert warm.take(SIZE) is None

    assert not warm.fill(ROOM, turn)

    assert warm.used_bytes == 0


def test_a_file_is_left_in_the_midst_when_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm = WarmPages(tmp_path, 100 * SIZE)
    warm.expect([100 * SIZE])
    allocated_bytes = []

    def allocate(_descriptor: int, _offset: int, length: int) -> None:
        allocated_bytes.append(length)
        warm.stop()

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    assert warm.fill(ROOM, warm.turn)
    warm.wait_stopped()

    assert len(allocated_bytes) == 1
    assert warm.used_bytes == warm.making_bytes == 0
    assert os.listdir(tmp_path) == []


def test_what_is_given_up_is_gone(tmp_path: Path) -> None:
    warm = filled(tmp_path, SIZE, 2 * SIZE)

    assert warm.give_up()
    assert warm.used_bytes == SIZE
    assert warm.give_up() and not warm.give_up()

    assert os.listdir(tmp_path) == []
