"""Requests that a leader does not look at while an endpoint of their model starts.

The published scheduler has one loop for each model, which waits for all that it has started before
it looks at its queue again.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.simulation.cluster.request import SimulatedRequest


@dataclass(eq=False)
class HeldRequests:
    is_holding: bool  # False: none are
    _held: defaultdict[str, list[SimulatedRequest]] = field(  # by model, in the order of arrival
        default_factory=lambda: defaultdict(list)
    )

    def hold(self, request: SimulatedRequest, snapshot: Snapshot) -> bool:
        """Whether it is kept here for now."""
        if not self.is_holding or not _is_starting(snapshot, request.model_id):
            return False
        self._held[request.model_id].append(request)
        return True

    def release(self, snapshot: Snapshot) -> Iterator[SimulatedRequest]:
        """Those whose model has nothing that starts any more."""
        for model_id in [id_ for id_ in self._held if not _is_starting(snapshot, id_)]:
            yield from self._held.pop(model_id)


def _is_starting(snapshot: Snapshot, model_id: str) -> bool:
    return any(_starts(endpoint) for endpoint in snapshot.endpoints.by("model", model_id))


def _starts(endpoint: Endpoint) -> bool:
    return endpoint.state.can_take_requests and not endpoint.state.is_serving
