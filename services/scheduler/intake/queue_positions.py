"""Where requests stand in their models' queues, as the last round knew it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from services.scheduler.policy.cluster import OpenRequest
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.policy.tables.table import Table


@dataclass
class QueuePositions:
    """Works out a model's queue once for each state of the requests, for all who ask."""

    latest: Callable[[], Snapshot | None]
    _requests: Table[OpenRequest] | None = None  # of which the positions are
    _by_model: dict[str, dict[str, int]] = field(default_factory=dict)

    def of(self, attempts: Mapping[str, int]) -> dict[str, int] | None:
        """How many wait before each of these that is queued in that attempt; None when no round
        knows."""
        snapshot = self.latest()
        if snapshot is None:
            return None
        if snapshot.requests is not self._requests:
            self._requests, self._by_model = snapshot.requests, {}
        found = {}
        for request_id, attempt in attempts.items():
            request = snapshot.requests.get(request_id)
            if request is not None and request.is_queued and request.attempt == attempt:
                found[request_id] = self._queue(snapshot, request.model_id)[request_id]
        return found

    def _queue(self, snapshot: Snapshot, model_id: str) -> dict[str, int]:
        if model_id not in self._by_model:
            queued = snapshot.queued(model_id)
            self._by_model[model_id] = {request.id: i for i, request in enumerate(queued)}
        return self._by_model[model_id]
