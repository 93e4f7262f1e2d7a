"""Which of the speeds that entries tell are new measurements. Pure, but for what it remembers.

An entry tells its speed with every heartbeat for as long as it lives, and thousands serve: of a
model each part of it (prompts, and the steps of each batch) counts once in a minute, and only where
it is another one than before.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from libs.common.bus.messages import EngineSpeed, WorkerObserved
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.snapshot import Snapshot

LOOK_INTERVAL_S = 1.0  # an endpoint may be gone soon after its only answer
MODEL_INTERVAL_S = 60.0
TIDY_INTERVAL_S = 5.0
# Idle for longer it says what it said at an earlier look.
MAX_IDLE_MS = int(20 * LOOK_INTERVAL_S * 1000)
_PROMPTS = 0  # beside the batches

Parts = dict[int, float]  # by batch, or _PROMPTS: as they were told, or when they were counted


@dataclass(frozen=True)
class SeenSpeed:
    """`speed`: what of it is new."""

    endpoint: Endpoint
    worker_id: str
    speed: EngineSpeed


@dataclass
class SpeedLog:
    """Times are the leader's monotonic seconds."""

    look_interval_s: float = LOOK_INTERVAL_S
    _looked_at_s: float = -inf
    _tidied_at_s: float = -inf
    _told: dict[str, Parts] = field(default_factory=dict)  # by worker
    _counted_at_s: dict[str, Parts] = field(default_factory=dict)  # by model

    def follow(self, worker_id: str) -> None:
        """An entry whose start this leader has seen: all that it will tell is new. What others tell
        at first an earlier leader may have counted."""
        self._told.setdefault(worker_id, {})

    def new(self, snapshot: Snapshot) -> list[SeenSpeed]:
        """Of each model the first endpoint's, now and then; to be noted once it is written."""
        if snapshot.now_s - self._looked_at_s < self.look_interval_s:
            return []
        self._looked_at_s = snapshot.now_s
        self._tidy(snapshot)
        found: dict[str, SeenSpeed] = {}
        for endpoint, worker in self._due(snapshot):
            assert worker.speed is not None, "only such are due"
            if worker.worker_id not in self._told:
                self._told[worker.worker_id] = _parts(worker.speed)
            elif endpoint.model_id not in found:
                new = self._new_parts(endpoint.model_id, worker.worker_id, worker.speed)
                if new is not None:
                    found[endpoint.model_id] = SeenSpeed(endpoint, worker.worker_id, new)
        return list(found.values())

    def note(self, seen: SeenSpeed, now_s: float) -> None:
        parts = _parts(seen.speed)
        self._told.setdefault(seen.worker_id, {}).update(parts)
        counted = self._counted_at_s.setdefault(seen.endpoint.model_id, {})
        counted.update(dict.fromkeys(parts, now_s))

    def _due(self, snapshot: Snapshot) -> Iterator[tuple[Endpoint, WorkerObserved]]:
        """Entries that have computed lately, of models of which not all has been counted lately."""
        for heard in snapshot.observed.agents.values():
            for worker in heard.heartbeat.workers:
                speed = worker.speed
                if speed is None or worker.idle_ms > MAX_IDLE_MS:
                    continue
                endpoint = snapshot.endpoints.get(worker.endpoint_id)
                if endpoint is None:
                    continue
                counted = self._counted_at_s.get(endpoint.model_id, ())
                if len(counted) > len(speed.decode):  # all batches, and the prompts
                    continue
                entry = endpoint.entry if endpoint.state.is_serving else None
                if entry is not None and entry.id == worker.worker_id:
                    yield endpoint, worker

    def _new_parts(self, model_id: str, worker_id: str, speed: EngineSpeed) -> EngineSpeed | None:
        counted, told = self._counted_at_s.get(model_id, {}), self._told[worker_id]
        new = {x for x, y in _parts(speed).items() if x not in counted and told.get(x) != y}
        if not new:
            return None
        return EngineSpeed(
            prefill_us_per_token=speed.prefill_us_per_token if _PROMPTS in new else None,
            decode=tuple(time for time in speed.decode if time.batch in new),
        )

    def _tidy(self, snapshot: Snapshot) -> None:
        if snapshot.now_s - self._tidied_at_s < TIDY_INTERVAL_S:
            return
        self._tidied_at_s = snapshot.now_s
        since_s = snapshot.now_s - MODEL_INTERVAL_S
        left = {
            id_: {part: at_s for part, at_s in counted.items() if at_s > since_s}
            for id_, counted in self._counted_at_s.items()
        }
        self._counted_at_s = {id_: counted for id_, counted in left.items() if counted}
        if len(self._told) > 2 * len(snapshot.endpoints) + 100:
            live = {worker.id for endpoint in snapshot.endpoints for worker in endpoint.workers}
            self._told = {id_: told for id_, told in self._told.items() if id_ in live}


def _parts(speed: EngineSpeed) -> Parts:
    parts: Parts = {time.batch: time.mean_us for time in speed.decode}
    if speed.prefill_us_per_token is not None:
        parts[_PROMPTS] = speed.prefill_us_per_token
    return parts
