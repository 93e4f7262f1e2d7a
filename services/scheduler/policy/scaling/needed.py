"""How many endpoints the requests of a model need that are there. Pure."""

from collections.abc import Collection

from services.scheduler.policy.cluster import Endpoint, Model
from services.scheduler.policy.scaling.autoscaler import Load, needed_endpoints
from services.scheduler.policy.snapshot import Snapshot


def needed_now(snapshot: Snapshot, model: Model, live: Collection[Endpoint]) -> int:
    """`live`: the model's endpoints that can take requests. Whoever runs has a slot: where nobody
    waits, running requests need no other endpoint."""
    demand = snapshot.demand(model.id)
    num_running = sum(snapshot.num_assigned(endpoint.id) for endpoint in live)
    load = Load(demand.num_waiting, num_running if demand.num_waiting else 0)
    return needed_endpoints(load, model.max_slots)
