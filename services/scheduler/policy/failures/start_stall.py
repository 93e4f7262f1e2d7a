"""Whether a start still moves. Pure; times are monotonic seconds.

A start may take as long as its bytes need; what ends it is standing still. After a change of the
leader the watch begins anew.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from libs.common.bus.messages import FetchObserved, WorkerObserved
from libs.common.states import FetchState, WorkerState


@dataclass(frozen=True)
class StartActivity:
    """What was last seen to move of a start, and when."""

    facts: object  # compared only
    at_s: float


def start_activity(
    before: StartActivity | None,
    workers: Iterable[WorkerObserved],
    fetches: Iterable[FetchObserved | None],
    now_s: float,
) -> StartActivity:
    """The same as before while nothing about the start has changed."""
    facts = (
        tuple(map(_progress_of, workers)),
        tuple(map(_fetch_progress_of, (f for f in fetches if f is not None))),
    )
    return before if before is not None and before.facts == facts else StartActivity(facts, now_s)


def _fetch_progress_of(fetch: FetchObserved) -> object:
    """An ended one's steps are told for a while only."""
    num_steps = len(fetch.steps) if fetch.state is FetchState.FETCHING else 0
    return (fetch.state, fetch.bytes_done, num_steps)


def _progress_of(worker: WorkerObserved) -> object:
    """What grows while a worker starts. An engine that is ready turns also with nothing to do."""
    if worker.state is WorkerState.READY:
        return worker.state
    return (worker.state, len(worker.steps), worker.progress)
