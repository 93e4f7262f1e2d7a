"""How many endpoints the requests of a model will need, if they go on to come as they do. Pure."""

from services.scheduler.policy.cluster import Model
from services.scheduler.policy.scaling.autoscaler import EndpointBounds, needed_endpoints
from services.scheduler.policy.snapshot import Snapshot


def expected_endpoints(snapshot: Snapshot, model: Model) -> int:
    """0: nobody has seen enough of them to say."""
    traffic = snapshot.traffic.get(model.id)
    if traffic is None:
        return 0
    load = traffic.load(0, 0, snapshot.now_s)
    return EndpointBounds(at_most=model.max_endpoints).clamp(
        needed_endpoints(load, model.max_slots)
    )
