"""How many endpoints a model shall have. Pure."""

from math import ceil

from services.scheduler.policy.cluster import Demand, Model


def wanted_endpoints(model: Model, demand: Demand, num_in_flight: int, num_live: int) -> int:
    """Endpoints for `demand` besides the `num_in_flight` requests that hold slots.

    Never fewer than `num_live`: an endpoint goes by keep-alive, not because the queue is short.
    """
    if demand.num_waiting == 0:
        return num_live
    needed = ceil((num_in_flight + demand.num_waiting) / model.max_slots)
    return max(num_live, min(needed, model.max_endpoints))
