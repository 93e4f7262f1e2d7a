"""Which queued request goes to which endpoint. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


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
    free = {place.endpoint_id: place.num_free for place in slots}
    order = {place.endpoint_id: place.is_serving for place in slots}
    assignments = []
    for request_id in request_ids:
        open_places = [endpoint_id for endpoint_id, num in free.items() if num > 0]
        if not open_places:
            break
        best = max(open_places, key=lambda endpoint_id: (order[endpoint_id], free[endpoint_id]))
        free[best] -= 1
        assignments.append(Assignment(request_id, best))
    return tuple(assignments)
