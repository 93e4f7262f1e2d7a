from dataclasses import replace

import pytest

from services.fetcher.hostcache.eviction import Candidate, RefetchCost, in_order_of_eviction

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
