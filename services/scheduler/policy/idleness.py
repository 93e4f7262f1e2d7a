"""How long an endpoint has had nothing to do, from its row and from its workers' own words."""

from dataclasses import dataclass

from libs.common.bus.messages import WorkerObserved
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.rounds.round import Round

_TOLERANCE_S = 1.0  # two clocks and a message lie between row and heartbeat


@dataclass(frozen=True)
class Idleness:
    is_busy: bool
    idle_s: float | None = None  # None while busy, or while nobody can say
    is_news: bool = False  # the row says otherwise


def idleness(round_: Round, endpoint: Endpoint, present: tuple[WorkerObserved, ...]) -> Idleness:
    """Warm requests never pass the scheduler, so only the workers know about the last one."""
    if not endpoint.state.is_serving or len(present) < endpoint.num_stages:
        return Idleness(is_busy=False)
    if endpoint.num_assigned or any(w.num_running + w.num_waiting for w in present):
        return Idleness(is_busy=True)
    entry = round_.observed.agents.of(endpoint.workers[0].node_id)
    assert entry is not None, "its worker is present, so it was heard"
    # Requests are held by stage 0 alone; the stages after it know nothing of them.
    observed_s = present[0].idle_ms / 1000 + round_.now_s - entry.at_s
    if endpoint.idle_s is None or observed_s < endpoint.idle_s - _TOLERANCE_S:
        return Idleness(is_busy=False, idle_s=observed_s, is_news=True)
    return Idleness(is_busy=False, idle_s=min(endpoint.idle_s, observed_s))
