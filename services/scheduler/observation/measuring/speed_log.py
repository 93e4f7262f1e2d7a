"""Which of the speeds that entries tell are new measurements. Pure, but for what it remembers.

An entry tells its speed with every heartbeat for as long as it lives, and thousands serve: of a
model one measurement counts in a minute, and only what is another one than before.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from libs.common.bus.messages import EngineSpeed, WorkerObserved
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.snapshot import Snapshot

LOOK_INTERVAL_S = 10.0
MODEL_INTERVAL_S = 60.0
# Idle for longer it says what it said at an earlier look.
MAX_IDLE_MS = int(2 * LOOK_INTERVAL_S * 1000)


@dataclass(frozen=True)
class SeenSpeed:
    endpoint: Endpoint
    worker_id: str
    speed: EngineSpeed


@dataclass
class SpeedLog:
    """Times are the leader's monotonic seconds."""

    look_interval_s: float = LOOK_INTERVAL_S
    _looked_at_s: float = -inf
    _told: dict[str, EngineSpeed | None] = field(default_factory=dict)  # by worker
    _counted_at_s: dict[str, float] = field(default_factory=dict)  # by model

    def follow(self, worker_id: str) -> None:
        """An entry whose start this leader has seen: all that it will tell is new. What others tell
        at first an earlier leader may have counted."""
        self._told.setdefault(worker_id, None)

    def new(self, snapshot: Snapshot) -> list[SeenSpeed]:
        """One of each model, now and then; to be noted once it is written."""
        if snapshot.now_s - self._looked_at_s < self.look_interval_s:
            return []
        self._looked_at_s = snapshot.now_s
        self._tidy(snapshot)
        found: dict[str, SeenSpeed] = {}
        for endpoint, worker in self._due(snapshot):
            assert worker.speed is not None, "only such are due"
            if worker.worker_id not in self._told:
                self._told[worker.worker_id] = worker.speed
            elif self._told[worker.worker_id] != worker.speed:
                seen = SeenSpeed(endpoint, worker.worker_id, worker.speed)
                found.setdefault(endpoint.model_id, seen)
        return list(found.values())

    def note(self, seen: SeenSpeed, now_s: float) -> None:
        self._told[seen.worker_id] = seen.speed
        self._counted_at_s[seen.endpoint.model_id] = now_s

    def _due(self, snapshot: Snapshot) -> Iterator[tuple[Endpoint, WorkerObserved]]:
        """Entries that have computed lately, of models that have not been counted lately."""
        for heard in snapshot.observed.agents.values():
            for worker in heard.heartbeat.workers:
                if worker.speed is None or worker.idle_ms > MAX_IDLE_MS:
                    continue
                endpoint = snapshot.endpoints.get(worker.endpoint_id)
                if endpoint is None or not endpoint.state.is_serving:
                    continue
                entry = endpoint.entry
                is_entry = entry is not None and entry.id == worker.worker_id
                if is_entry and endpoint.model_id not in self._counted_at_s:
                    yield endpoint, worker

    def _tidy(self, snapshot: Snapshot) -> None:
        counted = self._counted_at_s.items()
        now_s = snapshot.now_s
        self._counted_at_s = {id_: s for id_, s in counted if now_s - s < MODEL_INTERVAL_S}
        if len(self._told) > 2 * len(snapshot.endpoints) + 100:
            live = {worker.id for endpoint in snapshot.endpoints for worker in endpoint.workers}
            self._told = {id_: told for id_, told in self._told.items() if id_ in live}
