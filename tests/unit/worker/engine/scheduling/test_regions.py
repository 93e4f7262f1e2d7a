from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.worker.engine.scheduling.regions import Region, RegionAllocator


def test_released_neighbours_become_one_region_again() -> None:
    allocator = RegionAllocator(30)
    regions = [allocator.allocate(10) for _ in range(3)]
    first, second, third = (region for region in regions if region is not None)

    for region in (first, third, second):
        allocator.release(region)

    assert allocator.allocate(30) == Region(0, 30)


def test_a_region_grows_in_place_into_what_follows_it() -> None:
    allocator = RegionAllocator(30)
    first, second = allocator.allocate(10), allocator.allocate(10)
    assert first is not None and second is not None

    assert allocator.extend(second, 20) == Region(10, 20)
    assert allocator.extend(first, 11) is None


def test_there_is_no_region_longer_than_the_longest_free_stretch() -> None:
    allocator = RegionAllocator(30)
    taken = [allocator.allocate(10) for _ in range(3)]
    for region in (taken[0], taken[2]):
        assert region is not None
        allocator.release(region)

    assert allocator.num_free == 20
    assert allocator.allocate(11) is None
    assert allocator.allocate(10) == Region(0, 10)


def test_releasing_twice_is_noticed() -> None:
    allocator = RegionAllocator(30)
    region = allocator.allocate(10)
    assert region is not None
    allocator.release(region)

    with pytest.raises(AssertionError, match="twice"):
        allocator.release(region)


@given(st.lists(st.tuples(st.sampled_from("are"), st.integers(1, 40), st.integers(0, 30))))
def test_regions_never_overlap_and_nothing_leaks(steps: list[tuple[str, int, int]]) -> None:
    allocator = RegionAllocator(100)
    held: list[Region] = []
    for action, size, pick in steps:
        if action == "a":
            region = allocator.allocate(size)
            held += [region] if region is not None else []
        elif held and action == "r":
            allocator.release(held.pop(pick % len(held)))
        elif held:
            index = pick % len(held)
            grown = allocator.extend(held[index], held[index].capacity + size)
            held[index] = grown or held[index]
        ordered = sorted(held)
        assert all(a.end <= b.start for a, b in pairwise(ordered))
        assert all(0 <= region.start and region.end <= 100 for region in held)
        assert allocator.num_used == sum(region.capacity for region in held)

    for region in held:
        allocator.release(region)
    assert allocator.allocate(100) == Region(0, 100)
