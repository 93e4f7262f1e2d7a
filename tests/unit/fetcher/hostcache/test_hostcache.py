import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread

import pytest

from libs.common.weights.manifest import UnitEntry
from libs.common.weights.unitfile import UnitReader
from libs.common.weights.unitheader import UnitState
from libs.common.weights.unitwriter import UnitWriter, file_size_bytes
from services.fetcher.errors import HostCacheFull, SharedMemoryFull
from services.fetcher.hostcache.hostcache import HostCache
from services.fetcher.hostcache.memory_space import MemorySpace, space_of
from tests.support.waiting import eventually
from tests.unit.common.weights.builders import random_bytes, unit_of

SIZE = 20_000


def data_of(number: int) -> bytes:
    return random_bytes(SIZE, seed=number)


def unit(number: int) -> UnitEntry:
    return unit_of(data_of(number), layer_index=number)


FILE_BYTES = file_size_bytes(unit(0))


def fill(writer: UnitWriter, number: int, num_chunks: int | None = None) -> None:
    data = data_of(number)
    for index in range(writer.unit.num_chunks if num_chunks is None else num_chunks):
        extent = writer.unit.chunk_range(index)
        writer.begin_chunk(index)
        writer.chunk_view(index)[:] = data[extent.start : extent.end]
        writer.commit_chunk(index)


@pytest.fixture
def cache(tmp_path: Path) -> HostCache:
    return opened(tmp_path / "units")


def opened(folder: Path, num_units: int = 2) -> HostCache:
    cache = HostCache(folder, max_bytes=num_units * FILE_BYTES)
    cache.adopt()
    return cache


async def put(cache: HostCache, number: int) -> None:
    fill(await cache.open(unit(number)), number)


@contextmanager
def leased(cache: HostCache, number: int) -> Iterator[int]:
    descriptor = cache.lease(unit(number).digest)
    assert descriptor is not None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_begun(folder: Path, unit: UnitEntry) -> bool:
    return any(path.name.startswith(unit.digest) for path in folder.iterdir())


async def test_a_file_whose_fetch_is_cancelled_while_it_is_made_is_known(tmp_path: Path) -> None:
    cache = HostCache(tmp_path / "units", max_bytes=2**26)
    cache.adopt()
    for seed in range(9):  # on a busy machine one may be made before it is cancelled
        large = unit_of(random_bytes(2**25, seed), layer_index=0)
        opening = asyncio.create_task(cache.open(large))
        await eventually(partial(is_begun, tmp_path / "units", large), poll_s=0.0005)
        if opening.cancel():
            break
    again = asyncio.create_task(cache.open(large))

    with pytest.raises(asyncio.CancelledError):
        await opening
    assert (await again).state is UnitState.FETCHING
    on_disk = sum(path.stat().st_size for path in (tmp_path / "units").iterdir())
    assert cache.used_bytes == on_disk == file_size_bytes(large)


async def test_the_least_recently_used_unit_makes_room(cache: HostCache) -> None:
    await put(cache, 0)
    await put(cache, 1)
    with leased(cache, 0):
        pass  # used last

    await put(cache, 2)

    assert set(cache.complete_digests) == {unit(0).digest, unit(2).digest}


async def test_what_several_fetches_wanted_outlives_what_one_wanted_later(
    cache: HostCache,
) -> None:
    await put(cache, 0)
    await cache.open(unit(0))  # a second model has the same layer
    await put(cache, 1)

    await put(cache, 2)

    assert set(cache.complete_digests) == {unit(0).digest, unit(2).digest}


async def test_what_nobody_wants_any_more_goes_in_the_end(cache: HostCache) -> None:
    await put(cache, 0)
    for _ in range(3):
        await cache.open(unit(0))

    for number in range(1, 7):
        await put(cache, number)

    assert unit(0).digest not in cache.complete_digests


async def test_a_leased_unit_stays(cache: HostCache) -> None:
    await put(cache, 0)
    await put(cache, 1)

    with leased(cache, 0):
        await put(cache, 2)

    assert unit(0).digest in cache.complete_digests


async def test_a_pinned_unit_stays_until_it_is_unpinned(cache: HostCache) -> None:
    await put(cache, 0)
    await put(cache, 1)
    cache.pin("worker-a", [unit(0).digest, unit(1).digest])

    with pytest.raises(HostCacheFull):
        await cache.make_room([unit(2)])
    cache.unpin("worker-a")
    await cache.make_room([unit(2)])

    assert cache.used_bytes == FILE_BYTES


async def test_no_room_is_a_clear_error_with_its_numbers(cache: HostCache) -> None:
    await put(cache, 0)
    with leased(cache, 0), pytest.raises(HostCacheFull) as caught:
        await cache.make_room([unit(1), unit(2)])

    assert str(caught.value) == (
        f"the host cache has no room for {2 * FILE_BYTES} bytes: {FILE_BYTES} of {2 * FILE_BYTES} "
        f"are used, and {FILE_BYTES} of them are in use by workers or fetches"
    )


class SmallMemory:
    """A file system for `num_units`, which others may fill besides."""

    def __init__(self, num_units: int) -> None:
        self.size_bytes, self.taken_bytes = num_units * FILE_BYTES, 0

    def space_of(self, folder: Path) -> MemorySpace:
        own_bytes = sum(path.stat().st_size for path in folder.iterdir())
        return MemorySpace(self.size_bytes, self.size_bytes - own_bytes - self.taken_bytes)


async def test_the_capacity_is_what_the_file_system_has_for_it(tmp_path: Path) -> None:
    memory = SmallMemory(3)
    cache = HostCache(tmp_path, 10 * FILE_BYTES, memory.space_of)
    empty_bytes = cache.capacity_bytes
    await put(cache, 0)
    with_a_unit_bytes = cache.capacity_bytes
    memory.taken_bytes = FILE_BYTES  # another node's, who shares it

    assert (empty_bytes, with_a_unit_bytes) == (3 * FILE_BYTES, 3 * FILE_BYTES)
    assert cache.capacity_bytes == 2 * FILE_BYTES
    assert HostCache(tmp_path, FILE_BYTES, memory.space_of).capacity_bytes == FILE_BYTES


async def test_full_shared_memory_evicts_and_then_says_what_to_change(tmp_path: Path) -> None:
    cache = HostCache(tmp_path, 10 * FILE_BYTES, SmallMemory(2).space_of)
    for number in range(3):
        await put(cache, number)

    with leased(cache, 2), pytest.raises(SharedMemoryFull) as caught:
        await cache.make_room([unit(3), unit(4)])

    assert cache.complete_digests == (unit(2).digest,)
    assert not caught.value.can_never_fit
    assert str(caught.value) == (
        f"shared memory is full: {2 * FILE_BYTES} bytes are needed in {tmp_path}, whose file "
        f"system has {FILE_BYTES} of {2 * FILE_BYTES} free, and {FILE_BYTES} are in use by workers "
        "or fetches; enlarge its mount (a container's --shm-size, a volume's size), or lower "
        "HYDRA_HOST_CACHE_BYTES on the nodes that share it"
    )


def test_a_folders_space_is_its_file_systems(tmp_path: Path) -> None:
    space = space_of(tmp_path)

    assert 0 <= space.free_bytes <= space.size_bytes > 0


async def test_room_for_what_is_there_already_costs_nothing(cache: HostCache) -> None:
    await put(cache, 0)
    await put(cache, 1)

    await cache.make_room([unit(0), unit(1)])

    assert len(cache.complete_digests) == 2


def start_worker(lease: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", "input()"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[lease])


async def test_the_kernel_ends_the_lease_of_a_killed_process(cache: HostCache) -> None:
    await put(cache, 0)
    await put(cache, 1)
    with leased(cache, 0) as descriptor:
        worker = start_worker(descriptor)
    cache.pin("other", [unit(1).digest])
    with pytest.raises(HostCacheFull):
        await cache.make_room([unit(2)])

    worker.kill()
    worker.communicate()
    await cache.make_room([unit(2)])

    assert cache.complete_digests == (unit(1).digest,)


async def test_a_mapping_is_a_lease_after_its_descriptor_was_closed(cache: HostCache) -> None:
    await put(cache, 0)
    await put(cache, 1)
    with leased(cache, 0) as descriptor:
        reader = UnitReader(descriptor, digest=unit(0).digest, size_bytes=SIZE)

    await put(cache, 2)
    assert unit(0).digest in cache.complete_digests
    assert bytes(reader.data) == data_of(0)
    del reader
    await put(cache, 3)

    assert unit(0).digest not in cache.complete_digests


def open_units(folder: Path) -> set[str]:
    """Unit files that this process has open."""
    links = Path("/proc/self/fd").iterdir()
    targets = {os.readlink(link) for link in links if link.is_symlink()}
    return {Path(target).name for target in targets if target.startswith(str(folder))}


async def test_a_complete_unit_costs_no_descriptor(cache: HostCache, tmp_path: Path) -> None:
    for number in range(2):
        await put(cache, number)
    assert unit(1).digest in open_units(tmp_path)

    cache.release(cache.complete_digests)
    # The thread that wrote last lets go of its work a moment after it has told the result.
    await eventually(lambda: not open_units(tmp_path), what="no open descriptor")

    assert len(cache.complete_digests) == 2


def warmed(folder: Path, num_units: int) -> HostCache:
    """A cache for so many units that has pages for two more, where there is room."""
    cache = HostCache(folder, num_units * FILE_BYTES, max_warm_bytes=2 * FILE_BYTES)
    cache.adopt()
    return cache


def fill_up(cache: HostCache) -> int:
    """The number of files made."""
    return sum(1 for _ in iter(lambda: cache.warm_filling()(), False))


def sizes(folder: Path) -> dict[int, int]:
    """Bytes by inode."""
    return {path.stat().st_ino: path.stat().st_size for path in folder.iterdir()}


async def test_units_come_to_lie_in_pages_that_were_made_before(tmp_path: Path) -> None:
    cache = warmed(tmp_path, num_units=4)
    await put(cache, 0)
    await put(cache, 1)
    assert fill_up(cache) == 2
    before = sizes(tmp_path)

    await put(cache, 2)

    assert sizes(tmp_path).keys() == before.keys(), "no new file"
    assert bytes((await cache.open(unit(2))).chunk_view(0)) == data_of(2)[:4096]
    assert cache.capacity_bytes == 4 * FILE_BYTES
    assert cache.free_bytes == 0


async def test_warm_pages_take_no_room_from_units(tmp_path: Path) -> None:
    cache = warmed(tmp_path, num_units=3)
    await put(cache, 0)
    assert fill_up(cache) == 1, "only the kind that is known"
    large = unit_of(random_bytes(2 * SIZE, seed=9), layer_index=9)

    await cache.open(large)

    assert unit(0).digest in cache.complete_digests
    assert sum(sizes(tmp_path).values()) == FILE_BYTES + file_size_bytes(large)


async def test_a_unit_waits_for_the_end_of_what_is_being_made_in_its_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = warmed(tmp_path, num_units=2)
    await put(cache, 0)
    with making(cache, monkeypatch) as go_on:
        asyncio.get_running_loop().call_later(0.02, go_on)
        await put(cache, 1)

    assert len(cache.complete_digests) == 2, "nothing was evicted"
    assert sum(sizes(tmp_path).values()) <= cache.max_bytes


@contextmanager
def making(cache: HostCache, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Another thread is about to allocate a file, until it is told to go on."""
    allocate, has_begun, may_go_on = os.posix_fallocate, Event(), Event()

    def allocate_late(*arguments: int) -> None:
        if not has_begun.is_set():
            has_begun.set()
            assert may_go_on.wait(10)
        allocate(*arguments)

    monkeypatch.setattr(os, "posix_fallocate", allocate_late)
    thread = Thread(target=cache.warm_filling())
    thread.start()
    assert has_begun.wait(10)
    try:
        yield may_go_on.set
    finally:
        may_go_on.set()
        thread.join()


async def test_warm_pages_of_an_earlier_process_are_removed(tmp_path: Path) -> None:
    cache = warmed(tmp_path, num_units=3)
    await put(cache, 0)
    fill_up(cache)

    opened(tmp_path)

    assert os.listdir(tmp_path) == [unit(0).digest]


async def test_a_restarted_fetcher_adopts_what_it_finds(tmp_path: Path) -> None:
    await put(opened(tmp_path), 0)

    cache = opened(tmp_path)

    assert cache.complete_digests == (unit(0).digest,)
    assert cache.lease(unit(0).digest) is None  # not before its bytes were hashed again
    assert (await cache.open(unit(0))).is_complete
    with leased(cache, 0):
        pass


async def test_an_incomplete_unit_is_resumed_in_place(tmp_path: Path) -> None:
    fill(await opened(tmp_path).open(unit(0)), 0, num_chunks=2)
    inode = (tmp_path / unit(0).digest).stat().st_ino

    writer = await opened(tmp_path).open(unit(0))

    assert writer.verified_bytes == 2 * 4096
    assert writer.generation == 2
    assert (tmp_path / unit(0).digest).stat().st_ino == inode


async def test_bytes_that_changed_in_memory_are_found_at_the_next_start(tmp_path: Path) -> None:
    await put(opened(tmp_path), 0)
    path = tmp_path / unit(0).digest
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(bytes([data_of(0)[-1] ^ 1]))
    cache = opened(tmp_path)

    writer = await cache.open(unit(0))

    assert writer.state is UnitState.FETCHING
    assert writer.verified_bytes == 0


async def test_foreign_files_are_swept_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"x" * 5000)
    (tmp_path / ("a" * 64)).write_bytes(b"\0" * 9000)
    (tmp_path / ("b" * 64)).symlink_to("/etc/hostname")
    UnitWriter.create(tmp_path / ("c" * 64), unit(0))  # holds another unit than its name says

    cache = opened(tmp_path)

    assert os.listdir(tmp_path) == []
    assert cache.used_bytes == 0


async def test_a_file_removed_by_others_is_made_again(cache: HostCache, tmp_path: Path) -> None:
    for number in range(2):
        await put(cache, number)
        (tmp_path / "units" / unit(number).digest).unlink()

    assert cache.lease(unit(0).digest) is None
    await put(cache, 0)
    await put(cache, 2)

    assert set(cache.complete_digests) == {unit(0).digest, unit(2).digest}


def test_the_folder_belongs_to_its_owner_alone(cache: HostCache, tmp_path: Path) -> None:
    assert (tmp_path / "units").stat().st_mode & 0o777 == 0o700
