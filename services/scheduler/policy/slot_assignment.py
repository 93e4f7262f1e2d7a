"""Which queued request goes to which endpoint. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace


@dataclass(frozen=True)
class Slots:
    """Free places of one endpoint."""

    endpoint_id: str
    is_serving: bool
    num_free: int


@dataclass(frozen=True)
class Assignment:
    request_id: str
    endpoint_id: str


def distribute(request_ids: Sequence[str], slots: Sequence[Slots]) -> tuple[Assignment, ...]:
    """In order of the requests: serving endpoints before starting ones, emptiest first."""
    best_first = [
        (not place.is_serving, -place.num_free, index)
        for index, place in enumerate(slots)
        if place.num_free > 0
    ]
    heapify(best_first)
    assignments = []
    for request_id in request_ids:
        if not best_first:
            break
        is_starting, negated_free, index = best_first[0]
        assignments.append(Assignment(request_id, slots[index].endpoint_id))
        if negated_free < -1:
            heapreplace(best_first, (is_starting, negated_free + 1, index))
        else:
            heappop(best_first)
    return tuple(assignments)
