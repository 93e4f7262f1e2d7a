"""Which endpoints give way first: those that are the cheapest to bring back. Pure.

What the end of an idle endpoint costs is a cold start, if its model is asked before it would have
gone anyway:

    loss = restart x P(asked within the horizon | not asked for so long)

in seconds that somebody will probably wait. The probability is that of the model's own gaps; the
horizon ends with the endpoint's keep-alive, and past five minutes the memory would be wanted by
others, too.
"""

from collections.abc import Callable, Iterable
from math import inf

from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.scaling.gap_history import GapHistory

HORIZON_S = 300.0

LossOf = Callable[[Endpoint], float]


def expected_loss_s(
    gaps: GapHistory, restart_s: float, gap_s: float, kept_for_s: float = inf
) -> float:
    """`gap_s`: since its model was asked; `kept_for_s`: what is left of its keep-alive."""
    horizon_s = min(HORIZON_S, max(0.0, kept_for_s))
    return restart_s * gaps.asked_within(gap_s, horizon_s)


def cheapest_first(endpoints: Iterable[Endpoint], loss_of: LossOf) -> list[Endpoint]:
    """Of equals the longest idle first; busy ones come last, those first that have served the
    longest, so that models take turns."""
    return sorted(endpoints, key=lambda endpoint: _place(endpoint, loss_of))


def _place(endpoint: Endpoint, loss_of: LossOf) -> tuple[bool, float, float]:
    if endpoint.state.is_serving and endpoint.idle_since_s is None:
        ready_since_s = endpoint.ready_since_s
        return (True, -inf if ready_since_s is None else ready_since_s, 0.0)
    idle_since_s = endpoint.idle_since_s
    return (False, loss_of(endpoint), -inf if idle_since_s is None else idle_since_s)
