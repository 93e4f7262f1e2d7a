"""What is known of a consolidation at one moment: by its worker, its fetch, and time. Pure."""

from libs.common.bus.messages import FetchObserved, WorkerObserved
from libs.common.cause_words import words
from libs.common.states import ConsolidationPhase, FetchState
from services.scheduler.policy.cluster import Endpoint, Worker
from services.scheduler.policy.consolidation.consolidation import Consolidation
from services.scheduler.policy.consolidation.duration import left_s
from services.scheduler.policy.consolidation.lifecycle import Situation
from services.scheduler.policy.consolidation.remaining import is_idle, kept_s
from services.scheduler.policy.consolidation.scale_up_lifecycle import Situation as ScaleUp
from services.scheduler.policy.observed import Observed
from services.scheduler.policy.snapshot import Snapshot

SWITCH_PATIENCE_S = 120.0  # for keys and values to come, after the time for the weights


def has_switched(snapshot: Snapshot, endpoint: Endpoint) -> bool:
    """Whether its entry has reached a later generation than its row says."""
    seen = snapshot.observed.entry(endpoint)
    return seen is not None and seen.generation > endpoint.generation


def situation_of(snapshot: Snapshot, endpoint: Endpoint) -> Situation:
    """Of one that is under way; of an endpoint without one, whether it has switched."""
    entry, open_ = endpoint.entry, endpoint.consolidation
    if entry is None or open_ is None:
        return Situation(has_switched=has_switched(snapshot, endpoint))
    seen = snapshot.observed.worker(entry)
    phase = _phase(seen, open_)
    patience_s = open_.timeout_s + SWITCH_PATIENCE_S
    return Situation(
        has_switched=has_switched(snapshot, endpoint),
        is_serving=endpoint.state.is_serving,
        is_allowed=snapshot.limits.can_consolidate,
        given_up=_given_up(seen) if phase is ConsolidationPhase.ABANDONED else None,
        failed_fetch=_failed_fetch(snapshot, entry, open_),
        is_copying=phase in (ConsolidationPhase.COPYING, ConsolidationPhase.SWITCHED),
        is_overdue=snapshot.now_s - open_.began_at_s > patience_s,
        ends_before=_ends_before(snapshot, endpoint, entry, open_),
    )


def scale_up_situation_of(snapshot: Snapshot, endpoint: Endpoint, worker: Worker) -> ScaleUp:
    """Of one of its `growing_workers`."""
    open_ = worker.consolidation
    assert open_ is not None, "it has a target"
    seen, has_ended = snapshot.observed.worker(worker), endpoint.generation >= open_.generation
    phase = _phase(seen, open_)
    patience_s = open_.timeout_s + SWITCH_PATIENCE_S
    return ScaleUp(
        has_switched=has_ended and seen is not None and seen.generation >= open_.generation,
        is_serving=endpoint.state.is_serving,
        is_allowed=snapshot.limits.can_consolidate,
        is_for_nothing=not has_ended and endpoint.consolidation is None,
        given_up=_given_up(seen) if phase is ConsolidationPhase.ABANDONED else None,
        failed_fetch=_failed_fetch(snapshot, worker, open_),
        is_overdue=snapshot.now_s - open_.began_at_s > patience_s,
    )


def _phase(seen: WorkerObserved | None, open_: Consolidation) -> ConsolidationPhase | None:
    """Of this target, as the worker tells it."""
    told = None if seen is None else seen.consolidation
    return None if told is None or told.generation != open_.generation else told.phase


def _given_up(seen: WorkerObserved | None) -> str:
    told = None if seen is None else seen.consolidation
    return told.why if told is not None and told.why else "it did not say why"


def _failed_fetch(snapshot: Snapshot, worker: Worker, open_: Consolidation) -> str | None:
    fetch = fetch_of(snapshot.observed, worker, open_)
    if fetch is None or fetch.state is not FetchState.FAILED:
        return None
    return "its fetcher did not say why" if fetch.cause is None else words(fetch.cause)


def fetch_of(observed: Observed, worker: Worker, open_: Consolidation) -> FetchObserved | None:
    """The fetch of what the worker lacks."""
    heard = observed.fetchers.get(worker.node_id)
    return None if heard is None else heard.fetches.get(open_.fetch_id)


def _ends_before(
    snapshot: Snapshot, endpoint: Endpoint, entry: Worker, open_: Consolidation
) -> bool:
    """Its model has gone idle, and will not be asked while it lasts, by its own keep-alive."""
    model = snapshot.models.get(endpoint.model_id)
    if model is None or not is_idle(snapshot, endpoint):
        return False
    return kept_s(snapshot, endpoint, model) < left_s(snapshot, entry, open_)
