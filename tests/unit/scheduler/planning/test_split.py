from dataclasses import replace
from itertools import combinations_with_replacement, pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.planning.split import Place, Split, Weights, split


def best_finish_s(weights: Weights, places: list[Place]) -> float:
    """By trying every split."""
    num_layers = len(weights.layer_bytes)
    cuts = combinations_with_replacement(range(num_layers + 1), len(places) - 1)
    return min((finish_s(weights, places, (0, *cut, num_layers)) for cut in cuts), default=inf)


def finish_s(weights: Weights, places: list[Place], bounds: tuple[int, ...]) -> float:
    longest_s = 0.0
    for index, (place, (start, end)) in enumerate(zip(places, pairwise(bounds), strict=True)):
        is_first = index == 0
        kv_bytes = -(-weights.kv_bytes * (end - start) // len(weights.layer_bytes))
        held = sum(weights.layer_bytes[start:end]) + kv_bytes + is_first * weights.end_bytes
        if held > place.free_bytes:
            return inf
        missing = sum(place.missing_layer_bytes[start:end]) + is_first * place.missing_end_bytes
        longest_s = max(longest_s, missing / place.rate_bytes_per_s)
    return longest_s


@st.composite
def cases(draw: st.DrawFn) -> tuple[Weights, list[Place]]:
    sizes = draw(st.lists(st.integers(1, 50), min_size=1, max_size=7))
    end_bytes, kv_bytes = draw(st.integers(0, 80)), draw(st.integers(0, 40))
    places = [
        Place(
            free_bytes=draw(st.integers(0, 300)),
            rate_bytes_per_s=draw(st.integers(1, 5)),
            missing_layer_bytes=[draw(st.sampled_from([0, size])) for size in sizes],
            missing_end_bytes=draw(st.sampled_from([0, end_bytes])),
        )
        for _ in range(draw(st.integers(1, 4)))
    ]
    return Weights(sizes, end_bytes, kv_bytes), places


@given(cases())
def test_no_other_split_is_complete_sooner_and_one_is_found_whenever_memory_suffices(
    case: tuple[Weights, list[Place]],
) -> None:
    weights, places = case

    found = split(weights, places)

    best_s = best_finish_s(weights, places)
    if found is None:
        assert best_s == inf
    else:
        assert found.bounds[0] == 0 and found.bounds[-1] == len(weights.layer_bytes)
        assert finish_s(weights, places, found.bounds) == pytest.approx(found.finish_s)
        assert found.finish_s == pytest.approx(best_s, rel=1e-6)


def busy(bounds: tuple[int, ...], min_busy: int) -> bool:
    return all(end > start for start, end in pairwise(bounds[1 : min_busy + 1]))


@given(cases(), st.integers(1, 4))
def test_the_first_stages_have_layers_where_they_are_wanted_and_have_room(
    case: tuple[Weights, list[Place]], wanted: int
) -> None:
    """Of equal layers, of which any may be in host caches: by trying every split."""
    drawn, places = case
    weights = replace(drawn, layer_bytes=[20] * len(drawn.layer_bytes))
    min_busy = min(wanted, len(places))

    found = split(weights, places, min_busy)

    num_layers = len(weights.layer_bytes)
    cuts = combinations_with_replacement(range(num_layers + 1), len(places) - 1)
    possible = [(0, *cut, num_layers) for cut in cuts if busy((0, *cut, num_layers), min_busy)]
    has_room = any(finish_s(weights, places, bounds) < inf for bounds in possible)
    assert (found is not None) == has_room
    assert found is None or busy(found.bounds, min_busy)


def test_the_demo_model_over_four_links_of_50_mb_per_s_takes_1_42_s() -> None:
    layer_bytes, end_bytes = [7_080_000] * 30, 56_624_256
    place = Place(2 * 2**30, 50e6, layer_bytes, end_bytes)

    found = split(Weights(layer_bytes, end_bytes, 0), [place] * 4)

    assert isinstance(found, Split)
    assert found.finish_s == pytest.approx(1.42, abs=0.005)
    assert found.bounds[1] < 5, "stage 0 has the embedding besides"


def test_a_stage_0_with_a_large_embedding_has_no_layers() -> None:
    place = Place(10_000, 1.0, [10] * 4, 500)

    assert split(Weights([10] * 4, 500, 0), [place] * 3) == Split((0, 0, 2, 4), (500, 20, 20))
