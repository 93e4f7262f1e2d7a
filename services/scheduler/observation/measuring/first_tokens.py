"""The first tokens of cold starts, as entries tell them. Pure, but for what it remembers.

It follows endpoints from when they serve; after a takeover nobody waits for those of the leader
before: that costs a measurement, and nothing else.
"""

from dataclasses import dataclass, field
from datetime import datetime

from services.scheduler.observation.measuring.start_log import AWAITED_S
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.snapshot import Snapshot

FIRST_TOKEN = "first_token"  # the step's name


@dataclass(frozen=True)
class FirstToken:
    cold_start_id: str
    endpoint_id: str
    at: datetime  # by the clock of its node


@dataclass
class FirstTokenLog:
    _awaited: dict[str, float] = field(default_factory=dict)  # endpoints, since when they serve

    def follow(self, endpoint: Endpoint, now_s: float) -> None:
        """It serves from now on."""
        self._awaited[endpoint.id] = now_s

    def new(self, snapshot: Snapshot) -> list[FirstToken]:
        """Those that are told by now; to be ended once they are written."""
        found = []
        for endpoint_id, since_s in tuple(self._awaited.items()):
            endpoint = snapshot.endpoints.get(endpoint_id)
            if endpoint is None or snapshot.now_s - since_s > AWAITED_S:
                del self._awaited[endpoint_id]
                continue
            told_at = _told_at(snapshot, endpoint)
            if told_at is not None and endpoint.cold_start_id is not None:
                found.append(FirstToken(endpoint.cold_start_id, endpoint_id, told_at))
        return found

    def end(self, endpoint_id: str) -> None:
        self._awaited.pop(endpoint_id, None)


def _told_at(snapshot: Snapshot, endpoint: Endpoint) -> datetime | None:
    seen = snapshot.observed.entry(endpoint)
    steps = () if seen is None else seen.steps
    return next((step.ended_at for step in steps if step.name == FIRST_TOKEN), None)
