"""How long an endpoint has had nothing to do, by its row and by its workers' own words. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from libs.common.bus.messages import WorkerObserved
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.snapshot import Snapshot

ROW_TOLERANCE_S = 1.0  # two clocks and a message lie between row and heartbeat


@dataclass(frozen=True)
class Idleness:
    is_busy: bool
    idle_s: float | None = None  # None while busy, or while nobody can say
    differs_from_row: bool = False  # the row says otherwise


def idleness(snapshot: Snapshot, endpoint: Endpoint, present: Sequence[WorkerObserved]) -> Idleness:
    """Warm requests never pass the scheduler, so only the workers know about the last one.

    `present`: what its members say of themselves, the entry first.
    """
    if not endpoint.state.is_serving or len(present) < endpoint.num_stages:
        return Idleness(is_busy=False)
    if snapshot.num_assigned(endpoint.id) or any(w.num_running + w.num_waiting for w in present):
        return Idleness(is_busy=True)
    entry, seen = endpoint.entry, snapshot.observed.entry(endpoint)
    assert entry is not None and seen is not None, "it is present"
    heard = snapshot.observed.agents[entry.node_id]
    # Requests are held by the entry alone; the stages after it know nothing of them.
    observed_s = seen.idle_ms / 1000 + snapshot.now_s - heard.at_s
    row_s = endpoint.idle_s(snapshot.now_s)
    if row_s is None or observed_s < row_s - ROW_TOLERANCE_S:
        return Idleness(is_busy=False, idle_s=observed_s, differs_from_row=True)
    return Idleness(is_busy=False, idle_s=min(row_s, observed_s))
