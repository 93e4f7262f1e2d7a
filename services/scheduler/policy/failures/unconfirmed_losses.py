"""Endpoints that a gateway reported lost, until a later heartbeat shows them alive. Pure.

Without this, a request would be given the dead endpoint again until its death is known.
"""

from collections.abc import Mapping

from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.observed import Observed
from services.scheduler.policy.tables.table import Table

CERTAIN_AFTER_S = 0.5  # a heartbeat that came this much later was sent after the loss


def unconfirmed(
    reported_at_s: Mapping[str, float], endpoints: Table[Endpoint], observed: Observed
) -> dict[str, float]:
    """Of the reports, by endpoint, those that still stand. An endpoint that is gone has none."""
    return {
        endpoint_id: at_s
        for endpoint_id, at_s in reported_at_s.items()
        if (endpoint := endpoints.get(endpoint_id)) is not None
        and not was_seen_alive(endpoint, at_s, observed)
    }


def was_seen_alive(endpoint: Endpoint, reported_at_s: float, observed: Observed) -> bool:
    """By a heartbeat that was sent after it was reported lost."""
    entry = endpoint.entry
    heard = None if entry is None else observed.agents.get(entry.node_id)
    seen = observed.entry(endpoint)
    if heard is None or seen is None or seen.state.is_finished:
        return False
    return heard.at_s >= reported_at_s + CERTAIN_AFTER_S
