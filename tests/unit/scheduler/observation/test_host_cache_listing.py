"""What a fetcher lists is checked at the door, and compared with rows piece by piece."""

import random

import pytest

from libs.common.bus.messages import CachedUnitsListed, ListCachedUnits
from services.scheduler.observation.host_cache_listing import Listing, fault_of


def unit(number: int) -> str:
    return f"{number:064x}"  # of the first bucket


def listed(*numbers: int, is_last: bool = True) -> CachedUnitsListed:
    units = tuple(map(unit, numbers))
    return CachedUnitsListed(boot_id="boot-1", version=1, units=units, is_last=is_last)


@pytest.mark.parametrize(
    ("after", "reply", "fault"),
    [
        (None, listed(), None),
        (None, listed(1, 2, 5), None),
        (1, listed(2, 5, is_last=False), None),
        (None, listed(is_last=False), "nothing"),
        (None, listed(2, 1), "not in order"),
        (None, listed(1, 1), "not in order"),
        (5, listed(5, 6), "again"),
        (5, listed(4, 6), "again"),
        (None, listed(1, 2**255), "not asked for"),
    ],
)
def test_an_answer_that_cannot_be_true_is_refused(
    after: int | None, reply: CachedUnitsListed, fault: str | None
) -> None:
    asked = ListCachedUnits(buckets=(0,), after=None if after is None else unit(after))

    found = fault_of(asked, reply)

    assert found is None if fault is None else found is not None and fault in found


def test_a_fetcher_cannot_be_made_to_list_more_than_its_message_may_hold() -> None:
    with pytest.raises(ValueError, match="at most 4096"):
        listed(*range(4097))


@pytest.mark.parametrize("seed", range(30))
def test_parts_together_make_rows_as_they_are_listed(seed: int) -> None:
    rng = random.Random(seed)
    numbers = range(1, 200)
    units = sorted(rng.sample([unit(i) for i in numbers], rng.choice([0, 3, 90])))
    rows = set(rng.sample([unit(i) for i in numbers], rng.choice([0, 3, 90])))
    after, up_to = rng.choice([(None, None), (unit(20), unit(150)), (None, unit(99))])
    inside = {u for u in map(unit, numbers) if _is_in(u, after, up_to)}
    told = tuple(u for u in units if u in inside)
    listing = Listing("boot-1", 1, frozenset({0}), after, up_to, told)
    outside = rows - inside

    limit, num_changes, at = 7, 0, after
    while True:
        behind = sorted(row for row in rows & inside if at is None or row > at)[:limit]
        part = listing.part(at, behind, limit)
        num_changes += len(part.change.added) + len(part.change.removed)
        assert len(part.change.added) <= limit and len(part.change.removed) <= limit
        rows = (rows | part.change.added) - part.change.removed
        if part.end == up_to:
            break
        assert part.end is not None and (at is None or part.end > at), "it goes on"
        at = part.end

    assert rows == set(told) | outside


def _is_in(unit_digest: str, after: str | None, up_to: str | None) -> bool:
    if after is not None and unit_digest <= after:
        return False
    return up_to is None or unit_digest <= up_to
