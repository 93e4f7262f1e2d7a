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
