"""What a hollow node tells of its units is what a real object would tell that has them all."""

from random import Random

import pytest

from benchmarks.controlplane.catalogue import unit_digests
from benchmarks.controlplane.hollow.fetching.host_cache import HollowHostCache
from libs.common.bus.messages import ListCachedUnits
from libs.common.weights.unit_set_digest import NUM_BUCKETS
from libs.common.weights.unitwriter import file_size_bytes
from services.fetcher.hostcache.complete_units import CompleteUnits
from tests.unit.benchmarks.hollow.worlds import host_cache, units_of

BOOT = "boot-a"
ROOM_BYTES = 5 * sum(file_size_bytes(unit) for unit in units_of(0))


def real_one_with(units: set[str]) -> CompleteUnits:
    reference = CompleteUnits()
    for unit in sorted(units):
        reference.add(unit)
    return reference


def assert_tells_the_set(cache: HollowHostCache, units: set[str]) -> None:
    told, reference = cache.complete_units, real_one_with(units)
    report, expected = told.report(), reference.report()
    assert cache.complete_digests == tuple(sorted(units))
    assert (report.num_units, report.set_digest) == (expected.num_units, expected.set_digest)
    assert told.bucket_digests(BOOT).set_digests == reference.bucket_digests(BOOT).set_digests


async def fetch(cache: HollowHostCache, number: int) -> None:
    await cache.make_room(units_of(number))
    for unit in units_of(number):
        writer = await cache.open(unit)
        for index in range(unit.num_chunks):
            writer.commit_chunk(index)
    cache.release(unit.digest for unit in units_of(number))


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_comes_and_goes_the_set_is_told_as_by_the_real_object(seed: int) -> None:
    chance, cache = Random(seed), host_cache(1, 2, 3, 4, max_bytes=ROOM_BYTES)
    known = {digest for number in (1, 2, 3, 4) for digest in unit_digests(number)}
    assert_tells_the_set(cache, known)
    told_version = cache.complete_units.report().version

    for _ in range(12):
        await fetch(cache, chance.randrange(10))
        report = cache.complete_units.report()
        assert report.since_version <= told_version
        known = known - set(report.removed) | set(report.added)
        assert_tells_the_set(cache, known)
        cache.complete_units.was_told(report)
        told_version = report.version


def asked(after: str | None, *buckets: int) -> ListCachedUnits:
    return ListCachedUnits(buckets=buckets, after=after)


@pytest.mark.parametrize(
    "buckets", [(0,), (7, 8, 9), tuple(range(NUM_BUCKETS))], ids=["one", "some", "all"]
)
async def test_units_are_listed_as_by_the_real_object(buckets: tuple[int, ...]) -> None:
    cache = host_cache(1, 2, 3, 4)
    await fetch(cache, 5)
    told, reference = cache.complete_units, real_one_with(set(cache.complete_digests))
    first = reference.listed(BOOT, ListCachedUnits(buckets=buckets)).units

    for after in (None, *first[:1], *first[-1:]):
        asked = ListCachedUnits(buckets=buckets, after=after)
        listed, expected = told.listed(BOOT, asked), reference.listed(BOOT, asked)
        assert (listed.units, listed.is_last) == (expected.units, expected.is_last)


async def test_what_the_node_held_from_the_start_is_no_news() -> None:
    report = host_cache(1, 2).complete_units.report()

    assert report.num_units == 36 and report.version == report.since_version
    assert (report.added, report.removed) == ((), ())
