"""Whether a start still moves. Pure but for its memory; times are monotonic seconds.

A start may take as long as its bytes need; what ends it is standing still. After a change of the
leader the watch begins anew.
"""

from dataclasses import dataclass, field

from libs.common.bus.messages import FetchObserved, WorkerObserved
from libs.common.states import WorkerState


@dataclass(frozen=True)
class _Seen:
    facts: object
    at_s: float


@dataclass
class StartWatch:
    timeout_s: float
    _seen: dict[str, _Seen] = field(default_factory=dict)  # by endpoint

    def is_stuck(
        self,
        endpoint_id: str,
        workers: tuple[WorkerObserved, ...],
        fetches: tuple[FetchObserved | None, ...],
        now_s: float,
    ) -> bool:
        """Nothing about it has changed for the timeout."""
        facts = (
            tuple(map(_moves, workers)),
            tuple((f.state, f.bytes_done, len(f.steps)) for f in fetches if f is not None),
        )
        seen = self._seen.get(endpoint_id)
        if seen is None or seen.facts != facts:
            self._seen[endpoint_id] = _Seen(facts, now_s)
            return False
        return now_s - seen.at_s > self.timeout_s

    def keep_only(self, endpoint_ids: set[str]) -> None:
        for endpoint_id in self._seen.keys() - endpoint_ids:
            del self._seen[endpoint_id]


def _moves(worker: WorkerObserved) -> object:
    """What grows while a worker starts. An engine that is ready turns also with nothing to do."""
    if worker.state is WorkerState.READY:
        return worker.state
    return (worker.state, len(worker.steps), worker.progress)
