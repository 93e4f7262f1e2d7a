"""What a host cache tells of its units is what its folder holds, whatever happened to them."""

import asyncio
import gc
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.weights.unit_set_digest import UnitSetDigest
from libs.common.weights.unitheader import UnitError, UnitState
from services.fetcher.hostcache.hostcache import HostCache
from services.fetcher.hostcache.unit_scan import inspect_unit_file
from tests.support.waiting import eventually
from tests.unit.fetcher.hostcache.test_hostcache import FILE_BYTES, data_of, fill, opened, unit


@pytest.fixture(autouse=True)
def no_descriptors_are_left() -> Iterator[None]:
    """Of the caches of earlier processes, whose mappings go with them: other tests count."""
    yield
    gc.collect()


def in_folder(folder: Path) -> set[str]:
    """Digests of complete unit files, as their headers say."""
    states = {path.name: inspect_unit_file(path, path.name) for path in folder.iterdir()}
    return {name for name, state in states.items() if state is UnitState.COMPLETE}


def require_told_is_true(cache: HostCache, folder: Path) -> None:
    report, there = cache.complete_units.report(), in_folder(folder)
    assert set(cache.complete_units) == there
    assert (report.num_units, report.set_digest) == (len(there), str(UnitSetDigest.of(there)))


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_to_units_the_set_that_is_told_is_that_of_the_folder(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    cache = opened(tmp_path, num_units=4)
    for _ in range(60):
        number = rng.randrange(8)
        match rng.choice(["fill", "fill", "begin", "fail", "room", "release", "restart"]):
            case "fill":
                writer = await cache.open(unit(number))
                if not writer.is_complete:
                    fill(writer, number)
            case "begin":
                await cache.open(unit(number))
            case "fail":
                writer = await cache.open(unit(number))
                if not writer.is_complete:
                    writer.fail(UnitError.STORE_UNREACHABLE)
            case "room":
                await cache.make_room([unit(i) for i in rng.sample(range(8), 3)])
            case "release":
                cache.release([unit(number).digest])
            case "restart":
                cache = opened(tmp_path, num_units=4)
        require_told_is_true(cache, tmp_path)


async def test_a_restarted_fetcher_tells_the_same_set_and_no_changes(tmp_path: Path) -> None:
    before = opened(tmp_path)
    for number in range(2):
        fill(await before.open(unit(number)), number)
    told = before.complete_units.report()

    after = opened(tmp_path).complete_units.report()

    assert (told.num_units, after.num_units) == (2, 2)
    assert after.set_digest == told.set_digest
    assert (after.added, after.removed, after.since_version) == ((), (), after.version)


async def test_a_unit_that_is_found_damaged_is_told_as_gone(tmp_path: Path) -> None:
    before = opened(tmp_path)
    for number in range(2):
        fill(await before.open(unit(number)), number)
    path = tmp_path / unit(0).digest
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(bytes([data_of(0)[-1] ^ 1]))
    cache = HostCache(tmp_path, 2 * FILE_BYTES)
    cache.adopt()

    checking = asyncio.create_task(cache.check_found())
    await eventually(lambda: len(cache.complete_units) == 1, what="the check")
    checking.cancel()

    assert cache.complete_units.report().removed == (unit(0).digest,)
    assert unit(0).digest not in cache.complete_units
