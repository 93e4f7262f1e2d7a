import pytest

from benchmarks.controlplane.hollow.fetching.host_cache import HollowHostCache
from libs.common.bus.messages import ListCachedUnits
from libs.common.weights.manifest import UnitEntry
from libs.common.weights.unit_set_digest import NUM_BUCKETS, UnitSetDigest, bucket_of
from libs.common.weights.unitwriter import UnitWriter, file_size_bytes
from services.fetcher.errors import HostCacheFull
from tests.unit.benchmarks.hollow.worlds import host_cache, units_of


def commit_all(writer: UnitWriter) -> None:
    for index in range(writer.unit.num_chunks):
        writer.commit_chunk(index)


async def fill(cache: HollowHostCache, units: tuple[UnitEntry, ...]) -> None:
    for unit in units:
        writer = await cache.open(unit)
        commit_all(writer)
    cache.release(unit.digest for unit in units)


def total_bytes(units: tuple[UnitEntry, ...]) -> int:
    return sum(map(file_size_bytes, units))


async def test_a_unit_counts_once_all_its_chunks_are_there() -> None:
    cache, (unit, *_) = host_cache(), units_of(1)
    writer = await cache.open(unit)

    assert cache.has_file(unit.digest) and not cache.has_complete(unit.digest)

    commit_all(writer)

    assert cache.complete_digests == (unit.digest,)
    assert cache.used_bytes == file_size_bytes(unit)


async def test_an_initial_unit_that_is_wanted_needs_no_fetching() -> None:
    cache = host_cache(3)
    unit = units_of(3)[0]
    before_bytes = cache.used_bytes

    assert (await cache.open(unit)).is_complete
    assert cache.used_bytes == before_bytes
    assert len(cache.complete_digests) == len(units_of(3))


async def test_initial_units_make_room_first_then_what_was_used_longest_ago() -> None:
    old, new, newest = units_of(1), units_of(2), units_of(3)
    cache = host_cache(4, max_bytes=3 * total_bytes(old))
    await fill(cache, old)
    await fill(cache, new)
    await fill(cache, old)

    await fill(cache, newest)
    assert not any(cache.has_file(unit.digest) for unit in units_of(4))
    await fill(cache, units_of(5)[:1])

    assert not cache.has_file(new[0].digest)
    assert all(cache.has_complete(unit.digest) for unit in (*old, *newest))


async def test_pinned_units_stay_and_who_finds_no_room_is_told_why() -> None:
    units, others = units_of(1), units_of(2)
    cache = host_cache(max_bytes=total_bytes(units))
    await fill(cache, units)
    cache.pin("a worker", [unit.digest for unit in units])

    with pytest.raises(HostCacheFull) as full:
        await cache.make_room(others)
    assert full.value.held_bytes == total_bytes(units)

    cache.unpin("a worker")
    await cache.make_room(others)
    assert cache.complete_digests == ()


async def test_after_a_restart_complete_units_are_there_and_half_ones_are_not() -> None:
    cache, (whole, half, *_) = host_cache(), units_of(1)
    await fill(cache, (whole,))
    await cache.open(half)

    cache.drop_incomplete()

    assert cache.complete_digests == (whole.digest,)
    assert not cache.has_file(half.digest)


async def test_what_is_told_of_the_units_is_what_there_is() -> None:
    cache = host_cache(3, max_bytes=total_bytes(units_of(3)) + total_bytes(units_of(1)))
    for units in (units_of(1), units_of(2), units_of(1)[:2]):
        await fill(cache, units)
        told = cache.complete_units
        listed = told.listed("boot-1", ListCachedUnits(buckets=tuple(range(NUM_BUCKETS))))
        buckets = told.bucket_digests("boot-1").set_digests

        assert listed.units == cache.complete_digests
        assert told.report().num_units == len(listed.units)
        assert told.report().set_digest == str(UnitSetDigest.of(listed.units))
        assert str(UnitSetDigest.of(u for u in listed.units if bucket_of(u) == 7)) == buckets[7]
