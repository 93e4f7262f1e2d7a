"""Tenants are taken from in turn, each's items in order of arrival."""

import pytest

from libs.common.fair_queue import FairQueue


def queue_of(*items: str) -> FairQueue[str]:
    """`a2` is an item of tenant `a`."""
    queue: FairQueue[str] = FairQueue()
    for item in items:
        queue.put(item[0], item)
    return queue


def taken(queue: FairQueue[str]) -> list[str]:
    return [queue.take() for _ in range(len(queue))]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], []),
        (["a1", "a2", "a3"], ["a1", "a2", "a3"]),
        (["a1", "a2", "a3", "b1", "c1", "b2"], ["a1", "b1", "c1", "a2", "b2", "a3"]),
    ],
)
def test_tenants_take_turns_each_in_order_of_arrival(items: list[str], expected: list[str]) -> None:
    assert taken(queue_of(*items)) == expected


def test_a_tenant_that_comes_again_comes_after_those_that_wait() -> None:
    queue = queue_of("a1", "b1", "b2")
    assert queue.take() == "a1"
    queue.put("a", "a2")

    assert taken(queue) == ["b1", "a2", "b2"]


def test_what_leaves_leaves_no_empty_turn() -> None:
    queue = queue_of("a1", "b1", "b2", "c1")

    queue.remove("a", "a1")
    queue.remove("a", "a1")
    assert queue.longest() == ("b", 2)
    assert queue.take_last("b") == "b2"
    assert queue.take_last("c") == "c1"

    assert taken(queue) == ["b1"]
    assert not queue
