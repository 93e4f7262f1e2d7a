from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.slot_assignment import Assignment, Slots, distribute


def test_a_serving_endpoint_comes_before_a_starting_one_however_empty() -> None:
    slots = [Slots("starting", False, 9), Slots("serving", True, 1)]

    assert distribute(["r1", "r2"], slots) == (
        Assignment("r1", "serving"),
        Assignment("r2", "starting"),
    )


def test_equal_endpoints_are_filled_evenly() -> None:
    slots = [Slots("a", True, 2), Slots("b", True, 2)]

    given_to = [item.endpoint_id for item in distribute(["1", "2", "3", "4"], slots)]

    assert sorted(given_to[:2]) == ["a", "b"] and sorted(given_to) == ["a", "a", "b", "b"]


@given(st.integers(0, 30), st.lists(st.integers(0, 5), max_size=5))
def test_first_come_first_served_and_no_slot_is_given_twice(
    num_requests: int, free: list[int]
) -> None:
    requests = [f"r{i}" for i in range(num_requests)]
    slots = [Slots(f"e{i}", i % 2 == 0, num) for i, num in enumerate(free)]

    assignments = distribute(requests, slots)

    assert [item.request_id for item in assignments] == requests[: sum(free)]
    for slot in slots:
        assert sum(a.endpoint_id == slot.endpoint_id for a in assignments) <= slot.num_free


def _by_looking_at_all(requests: list[str], slots: list[Slots]) -> tuple[Assignment, ...]:
    """The reference: for each request all places are compared."""
    free = {place.endpoint_id: place.num_free for place in slots}
    is_serving = {place.endpoint_id: place.is_serving for place in slots}
    assignments = []
    for request_id in requests:
        open_places = [endpoint_id for endpoint_id, num in free.items() if num > 0]
        if open_places:
            best = max(open_places, key=lambda id_: (is_serving[id_], free[id_]))
            free[best] -= 1
            assignments.append(Assignment(request_id, best))
    return tuple(assignments)


@given(st.integers(0, 40), st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=8))
def test_each_request_goes_where_one_that_compares_all_places_would_send_it(
    num_requests: int, places: list[tuple[bool, int]]
) -> None:
    requests = [f"r{i}" for i in range(num_requests)]
    slots = [Slots(f"e{i}", *place) for i, place in enumerate(places)]

    assert distribute(requests, slots) == _by_looking_at_all(requests, slots)
