"""The starts of which steps are told only after the endpoint serves. Pure, but for what it
remembers.

An endpoint comes to serve once, in the transaction that says so in its row: what its start shows
until then is written in the same one, and counts once, whoever leads. What is told later counts for
the leader that saw it serve; after a takeover nobody waits for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from libs.common.bus.messages import Step
from services.scheduler.observation.hops import mean_hop_s
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.snapshot import Snapshot

AWAITED_S = 120.0  # a first token that comes later is no cold one


@dataclass(frozen=True)
class PromptHop:
    """Of the first prompt of an endpoint."""

    endpoint_id: str
    hop_s: float


@dataclass
class StartLog:
    _awaited: dict[str, float] = field(default_factory=dict)  # endpoints, since when they serve

    def follow(self, endpoint: Endpoint, now_s: float) -> None:
        """It serves from now on."""
        if endpoint.num_stages > 1:
            self._awaited[endpoint.id] = now_s

    def hops(self, snapshot: Snapshot) -> list[PromptHop]:
        """Those that are told by now; to be ended once they are written."""
        found = []
        for endpoint_id, since_s in tuple(self._awaited.items()):
            endpoint = snapshot.endpoints.get(endpoint_id)
            if endpoint is None or snapshot.now_s - since_s > AWAITED_S:
                del self._awaited[endpoint_id]
                continue
            hop_s = mean_hop_s(stages_told(snapshot, endpoint))
            if hop_s is not None:
                found.append(PromptHop(endpoint_id, hop_s))
        return found

    def end(self, endpoint_id: str) -> None:
        self._awaited.pop(endpoint_id, None)


def stages_told(snapshot: Snapshot, endpoint: Endpoint) -> dict[int, Sequence[Step]]:
    """The steps of each of its stages, as far as they are heard."""
    seen = {w.stage_index: snapshot.observed.worker(w) for w in endpoint.member_workers}
    return {index: () if worker is None else worker.steps for index, worker in seen.items()}
