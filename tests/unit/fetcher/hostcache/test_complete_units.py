"""What a fetcher tells of its host cache is small, whatever it holds, and enough."""

import random
import sys
from collections.abc import Callable

import pytest
from blake3 import blake3

from libs.common.bus.messages import (
    MAX_LISTED_UNITS,
    FetcherHeartbeat,
    HostCacheReport,
    ListCachedUnits,
)
from libs.common.testing.bus import FakeClock
from libs.common.weights.unit_set_digest import NUM_BUCKETS, UnitSetDigest, bucket_of
from services.fetcher.hostcache.complete_units import MAX_TOLD, TELL_FOR_S, CompleteUnits

ALL_BUCKETS = tuple(range(NUM_BUCKETS))


def unit(number: int) -> str:
    return blake3(str(number).encode()).hexdigest()


def holding(num_units: int, clock: FakeClock | None = None) -> CompleteUnits:
    """As after a restart: what is found is no news."""
    found = CompleteUnits((clock or FakeClock()).monotonic_s)
    for number in range(num_units):
        found.add(unit(number))
    found.forget_changes()
    return found


def heartbeat_bytes(report: HostCacheReport) -> int:
    beat = FetcherHeartbeat(
        node_id="n" * 63,
        boot_id="b" * 63,
        sequence=2**40,
        accepted_version=2**40,
        nic_bytes_per_s=2**40,
        measured_bytes_per_s=1e12 / 7,
        cache_capacity_bytes=2**50,
        cache_used_bytes=2**50,
        cache_max_bytes=2**50,
        host_cache=report,
        fetches=(),
    )
    return len(beat.model_dump_json())


@pytest.mark.parametrize("num_units", [10_000, 125_000])
def test_a_heartbeat_is_small_whatever_the_host_cache_holds(num_units: int) -> None:
    units = holding(num_units)
    quiet_bytes = heartbeat_bytes(units.report())

    for number in range(num_units, num_units + 30):  # a cold start's
        units.add(unit(number))
    starting_bytes = heartbeat_bytes(units.report())
    for number in range(num_units):
        units.discard(unit(number))
    largest_bytes = heartbeat_bytes(units.report())

    assert quiet_bytes < 1024 and starting_bytes < 4096 and largest_bytes < 16_384


def test_a_heartbeat_costs_the_same_whatever_the_host_cache_holds() -> None:
    assert calls(holding(10).report) == calls(holding(10_000).report)


def calls(work: Callable[[], object]) -> int:
    """How many functions it calls."""
    called: list[str] = []
    sys.setprofile(lambda _frame, event, _arg: called.append(event))
    try:
        work()
    finally:
        sys.setprofile(None)
    return len([event for event in called if event in ("call", "c_call")])


def test_a_change_is_told_for_some_seconds_after_it_was_told_first() -> None:
    clock = FakeClock()
    units = holding(3, clock)
    units.add(unit(7))
    units.discard(unit(1))
    clock.advance(60)  # nobody was there to be told

    first = units.report()
    units.was_told(first)
    clock.advance(TELL_FOR_S - 1)
    again = units.report()
    clock.advance(1)
    later = units.report()

    assert (first.added, first.removed) == ((unit(7),), (unit(1),))
    assert again == first
    assert (later.added, later.removed, later.since_version) == ((), (), first.version)
    assert (later.num_units, later.set_digest) == (3, first.set_digest)


def test_what_comes_and_goes_is_told_as_it_is_in_the_end() -> None:
    units = holding(1)
    units.add(unit(5))
    units.discard(unit(5))
    units.discard(unit(0))
    units.add(unit(0))

    report = units.report()

    assert (report.added, report.removed) == ((unit(0),), (unit(5),))
    assert report.version - report.since_version == 4


def test_what_is_there_or_gone_already_is_no_change() -> None:
    units = holding(1)
    before = units.report()

    units.add(unit(0))
    units.discard(unit(9))

    assert units.report() == before


@pytest.mark.parametrize("seed", range(10))
def test_whoever_knew_the_set_at_any_version_that_is_told_knows_it_now(seed: int) -> None:
    rng = random.Random(seed)
    units, held = holding(0), set[str]()
    known = {0: frozenset[str]()}  # the set at each version
    for _ in range(2 * MAX_TOLD):
        changed = unit(rng.randrange(40))
        (units.discard if changed in held else units.add)(changed)
        held ^= {changed}
        report = units.report()
        known[report.version] = frozenset(held)

        since = rng.randint(report.since_version, report.version)
        learnt = (known[since] | set(report.added)) - set(report.removed)

        assert learnt == held == set(units)
        assert report.set_digest == str(UnitSetDigest.of(held))
        assert report.num_units == len(units) == len(held)


def test_a_large_set_is_listed_in_small_answers_in_order() -> None:
    units = holding(20_000)
    listed: list[str] = []
    while True:
        asked = ListCachedUnits(buckets=ALL_BUCKETS, after=listed[-1] if listed else None)
        answer = units.listed("boot-1", asked)
        assert len(answer.model_dump_json()) < 300_000
        listed += answer.units
        if answer.is_last:
            break
        assert len(answer.units) == MAX_LISTED_UNITS

    assert listed == sorted(listed) and set(listed) == set(units)


def test_only_the_buckets_that_are_asked_for_are_listed() -> None:
    units = holding(2000)

    answer = units.listed("boot-1", ListCachedUnits(buckets=(200, 3)))

    assert answer.units == tuple(u for u in units if bucket_of(u) in (3, 200)) and answer.is_last


def test_buckets_have_the_digests_of_what_is_in_them() -> None:
    units = holding(500)
    for number in range(0, 500, 3):
        units.discard(unit(number))

    told = units.bucket_digests("boot-1")

    assert told.set_digests == tuple(
        str(UnitSetDigest.of(u for u in units if bucket_of(u) == bucket)) for bucket in ALL_BUCKETS
    )
    assert len(told.model_dump_json()) < 10_000
