"""What takes long in a host cache is done in threads, and holds up nobody who needs another one."""

import asyncio
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from libs.common.weights.manifest import UnitEntry
from libs.common.weights.unitheader import UnitState
from libs.common.weights.unitwriter import UnitWriter
from services.fetcher.hostcache.eviction import RefetchCost
from services.fetcher.hostcache.hostcache import HostCache
from services.fetcher.hostcache.leases import remove_unless_leased
from services.fetcher.hostcache.unit_checks import MAX_AT_ONCE, Hashing
from services.fetcher.hostcache.unit_scan import is_whole, reopen_and_rehash
from tests.support.waiting import eventually
from tests.unit.fetcher.hostcache.test_hostcache import (
    FILE_BYTES,
    data_of,
    leased,
    opened,
    put,
    unit,
)


@dataclass
class Gate:
    """Threads that come wait until it is opened."""

    arrived: list[str] = field(default_factory=list)  # names of files, in order
    threads: set[str] = field(default_factory=set)
    may_go_on: threading.Event = field(default_factory=threading.Event)

    def wait(self, path: Path) -> None:
        self.arrived.append(path.name)
        self.threads.add(threading.current_thread().name)
        assert self.may_go_on.wait(30)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.may_go_on.set()


@dataclass(frozen=True)
class CountingCost(RefetchCost):
    """Asked once for each unit that is looked at."""

    asked: list[int] = field(default_factory=list)

    def seconds(self, num_bytes: int) -> float:
        self.asked.append(num_bytes)
        return super().seconds(num_bytes)


async def test_making_room_does_not_look_at_every_unit(tmp_path: Path) -> None:
    cost = CountingCost(1_000_000)
    cache = HostCache(tmp_path, 100 * FILE_BYTES, refetch_cost=cost)
    for number in range(100):
        await put(cache, number)
        cache.release([unit(number).digest])  # as fetches do at their end
    cost.asked.clear()

    for number in range(100, 110):
        await put(cache, number)
        cache.release([unit(number).digest])

    assert set(cache.complete_digests) == {unit(number).digest for number in range(10, 110)}
    assert len(cost.asked) < 10 * 6


async def test_files_are_removed_in_a_thread_while_the_loop_goes_on(
    tmp_path: Path, gate: Gate
) -> None:
    def remove(path: Path) -> bool:
        gate.wait(path)
        return remove_unless_leased(path)

    cache = HostCache(tmp_path, 2 * FILE_BYTES, remove=remove)
    await put(cache, 0)
    await put(cache, 1)

    making_room = asyncio.create_task(cache.make_room([unit(2)]))
    await eventually(lambda: gate.arrived == [unit(0).digest], what="the removal")

    assert threading.main_thread().name not in gate.threads
    assert cache.lease(unit(0).digest) is None  # it is about to go
    with leased(cache, 1):
        pass
    gate.may_go_on.set()
    await making_room
    assert cache.complete_digests == (unit(1).digest,)


async def test_a_unit_that_is_leased_at_the_last_moment_stays(tmp_path: Path) -> None:
    cache = HostCache(tmp_path, 2 * FILE_BYTES)
    await put(cache, 0)
    await put(cache, 1)

    with leased(cache, 0):
        await cache.make_room([unit(2)])
        left = cache.complete_digests
    await cache.make_room([unit(2), unit(3)])

    assert left == (unit(0).digest,)
    assert cache.used_bytes == 0


async def restarted(folder: Path, numbers: range, hashing: Hashing) -> HostCache:
    """A cache that has found complete units of an earlier process."""
    before = opened(folder, num_units=100)
    for number in numbers:
        await put(before, number)
    cache = HostCache(folder, 100 * FILE_BYTES, hashing=hashing)
    cache.adopt()
    return cache


def blocked_at(gate: Gate, *numbers: int) -> Hashing:
    """Hashing that waits at the gate for these units."""
    blocked = {unit(number).digest for number in numbers}

    def reopen(path: Path, entry: UnitEntry) -> UnitWriter:
        if path.name in blocked:
            gate.wait(path)
        return reopen_and_rehash(path, entry)

    def look(path: Path) -> bool:
        if path.name in blocked:
            gate.wait(path)
        return is_whole(path)

    return Hashing(reopen, look)


async def test_a_start_that_waits_for_hashing_holds_up_no_other_one(
    tmp_path: Path, gate: Gate
) -> None:
    cache = await restarted(tmp_path, range(20), blocked_at(gate, 0))
    slow = asyncio.create_task(cache.open(unit(0)))
    await eventually(lambda: bool(gate.arrived), what="the hashing of a large unit")

    new = await cache.open(unit(30))
    found = await cache.open(unit(1))
    await cache.make_room([unit(40)])

    assert new.state is UnitState.FETCHING
    assert found.is_complete and bytes(found.chunk_view(0)) == data_of(1)[:4096]
    assert not slow.done()
    gate.may_go_on.set()
    assert (await slow).is_complete


async def test_hashing_for_starts_has_a_bound(tmp_path: Path, gate: Gate) -> None:
    cache = await restarted(tmp_path, range(10), blocked_at(gate, *range(10)))
    opening = [asyncio.create_task(cache.open(unit(number))) for number in range(10)]

    await eventually(lambda: len(gate.arrived) == MAX_AT_ONCE, what="as many as may")
    await cache.open(unit(30))
    assert len(gate.arrived) == MAX_AT_ONCE

    gate.may_go_on.set()
    assert all(writer.is_complete for writer in await asyncio.gather(*opening))


async def test_what_nobody_waits_for_is_hashed_in_the_background(tmp_path: Path) -> None:
    cache = await restarted(tmp_path, range(5), Hashing())
    assert cache.lease(unit(3).digest) is None

    checking = asyncio.create_task(cache.check_found())
    await eventually(lambda: all(is_leasable(cache, i) for i in range(5)), what="five checks")

    assert not checking.done()
    checking.cancel()


async def test_a_start_does_not_wait_for_the_background(tmp_path: Path, gate: Gate) -> None:
    cache = await restarted(tmp_path, range(5), blocked_at(gate, 0, 1, 2))
    checking = asyncio.create_task(cache.check_found())
    await eventually(lambda: bool(gate.arrived), what="a check in the background")

    assert (await cache.open(unit(4))).is_complete
    assert len(gate.arrived) == 1  # and only one at a time

    gate.may_go_on.set()
    await eventually(lambda: all(is_leasable(cache, i) for i in range(5)), what="all checks")
    checking.cancel()


async def test_a_unit_that_is_hashed_at_this_moment_is_not_evicted(
    tmp_path: Path, gate: Gate
) -> None:
    cache = await restarted(tmp_path, range(2), blocked_at(gate, 0))
    cache.max_bytes = 2 * FILE_BYTES
    checking = asyncio.create_task(cache.open(unit(0)))
    await eventually(lambda: bool(gate.arrived), what="the check")

    await cache.make_room([unit(5)])

    assert cache.complete_digests == (unit(0).digest,)
    gate.may_go_on.set()
    assert (await checking).is_complete


async def test_a_damaged_unit_is_given_to_nobody_and_fetched_anew(tmp_path: Path) -> None:
    cache = await restarted(tmp_path, range(2), Hashing())
    path = tmp_path / unit(0).digest
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(bytes([data_of(0)[-1] ^ 1]))
    checking = asyncio.create_task(cache.check_found())
    await eventually(lambda: is_leasable(cache, 1), what="the check of the other one")

    assert not is_leasable(cache, 0)
    assert (await cache.open(unit(0))).state is UnitState.FETCHING
    checking.cancel()


async def test_who_stops_waiting_for_a_check_does_not_end_it(tmp_path: Path, gate: Gate) -> None:
    cache = await restarted(tmp_path, range(1), blocked_at(gate, 0))
    gone = asyncio.create_task(cache.open(unit(0)))
    await eventually(lambda: bool(gate.arrived), what="the check")
    gone.cancel()

    again = asyncio.create_task(cache.open(unit(0)))
    gate.may_go_on.set()

    assert (await again).is_complete
    assert len(gate.arrived) == 1


def is_leasable(cache: HostCache, number: int) -> bool:
    descriptor = cache.lease(unit(number).digest)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None
