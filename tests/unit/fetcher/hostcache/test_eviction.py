from collections.abc import Iterable
from dataclasses import dataclass, replace

import pytest

from services.fetcher.hostcache.eviction import Candidate, EvictionQueue, RefetchCost

CARD = RefetchCost.of_card(50_000_000)
LAYER_BYTES = 7_000_000


def unit(digest: str, size_bytes: int = LAYER_BYTES, **changes: float) -> Candidate:
    found = Candidate(
        digest=digest,
        file_bytes=size_bytes,
        refetch_s=CARD.seconds(size_bytes),
        num_uses=1,
        age=0.0,
        last_used_s=0.0,
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def in_order_of_eviction(candidates: Iterable[Candidate]) -> list[Candidate]:
    by_digest = {unit.digest: unit for unit in candidates}
    queue = EvictionQueue(by_digest.__getitem__)
    for candidate in by_digest.values():
        queue.put(candidate)
    return list(iter(queue.take, None))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(
            unit("z", last_used_s=1), unit("a", last_used_s=2), id="of equals the older one goes"
        ),
        pytest.param(
            unit("z", num_uses=1, last_used_s=2),
            unit("a", num_uses=3, last_used_s=1),
            id="what three models share stays",
        ),
        pytest.param(
            unit("z", refetch_s=CARD.seconds(LAYER_BYTES // 2)),
            unit("a"),
            id="half a unit is fetched again sooner than a whole one",
        ),
        pytest.param(
            unit("z", last_used_s=2),
            unit("a", size_bytes=10_000, last_used_s=1),
            id="a small unit costs a request and frees nothing",
        ),
        pytest.param(
            unit("z", num_uses=3, age=0.0),
            unit("a", num_uses=1, age=10.0),
            id="what was used often, but long ago, goes",
        ),
    ],
)
def test_what_costs_less_goes_first(first: Candidate, second: Candidate) -> None:
    assert in_order_of_eviction([second, first]) == [first, second]


def test_the_cost_is_the_time_of_the_network() -> None:
    slow, fast = RefetchCost.of_card(50_000_000), RefetchCost.of_card(500_000_000)

    assert slow.seconds(500_000_000) == pytest.approx(10, rel=0.01)
    assert fast.seconds(500_000_000) == pytest.approx(1, rel=0.01)
    assert 0 < RefetchCost.of_card(0).seconds(500_000_000) < 1


class CountedFloat(float):
    """Counts how often any two are compared."""

    num_comparisons = 0

    def __lt__(self, other: float) -> bool:
        CountedFloat.num_comparisons += 1
        return float(self) < float(other)

    def __eq__(self, other: object) -> bool:
        CountedFloat.num_comparisons += 1
        return isinstance(other, float) and float(self) == float(other)

    __hash__ = float.__hash__


@dataclass(frozen=True)
class CountedCandidate(Candidate):
    @property
    def worth(self) -> float:
        return CountedFloat(super().worth)


def test_taking_one_of_ten_thousand_looks_at_few_of_them() -> None:
    units = {f"{i:04}": unit(f"{i:04}", age=float(i * 7919 % 10_000)) for i in range(10_000)}
    counted = {digest: CountedCandidate(**vars(found)) for digest, found in units.items()}
    asked = list[str]()

    def current(digest: str) -> Candidate:
        asked.append(digest)
        return counted[digest]

    queue = EvictionQueue(current)
    for candidate in counted.values():
        queue.put(candidate)
    CountedFloat.num_comparisons = 0

    taken = [queue.take() for _ in range(100)]

    assert [found.age for found in taken if found] == list(range(100))
    assert len(asked) == 100
    # Two for each level of a tree of ten thousand, in each direction; sorting takes 1,300 times it.
    assert CountedFloat.num_comparisons < 100 * 100


def test_what_is_worth_more_by_now_goes_later() -> None:
    by_digest = {"a": unit("a"), "b": unit("b", last_used_s=1)}
    queue = EvictionQueue(by_digest.__getitem__)
    for candidate in by_digest.values():
        queue.put(candidate)
    by_digest["a"] = unit("a", num_uses=5)

    assert list(iter(queue.take, None)) == [by_digest["b"], by_digest["a"]]


def test_a_unit_that_is_used_over_and_over_fills_no_memory() -> None:
    queue = EvictionQueue({"a": unit("a")}.__getitem__)

    for _ in range(10_000):
        queue.put(unit("a"))

    assert len(queue._heap) < 200
    assert queue.take() == unit("a") and queue.take() is None


def test_what_was_discarded_is_not_taken() -> None:
    queue = EvictionQueue({"a": unit("a")}.__getitem__)
    queue.put(unit("a"))

    queue.discard("a")

    assert queue.take() is None
