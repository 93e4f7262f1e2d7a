"""Which endpoints gateways may send new requests to, as a snapshot says. Pure."""

from libs.common.bus.messages import EngineLoad, Route
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.failures.isolation import all_endpoints_taken
from services.scheduler.policy.observed import Observed
from services.scheduler.policy.snapshot import Snapshot


def closed_endpoints(snapshot: Snapshot) -> frozenset[str]:
    """Those that a gateway could not reach, until they are seen again, and those on which a request
    must be alone, until it is not any more."""
    lost = (*snapshot.losses, *snapshot.echoes_since_s)
    return all_endpoints_taken(snapshot).union(lost)


def routes_of(
    snapshot: Snapshot, model_id: str, closed: frozenset[str], max_routes: int | None = None
) -> tuple[Route, ...]:
    """Without what their engines do."""
    open_ones = (
        endpoint
        for endpoint in snapshot.endpoints.by("model", model_id)
        if endpoint.state.is_serving and endpoint.id not in closed
    )
    routes = (Route(endpoint_id=e.id, epoch=e.epoch, max_slots=e.max_slots) for e in open_ones)
    return tuple(routes)[:max_routes]


def with_loads(snapshot: Snapshot, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """With what the entry worker of each said of its engine."""
    return tuple(
        route.model_copy(update={"load": _load(snapshot.observed, endpoint)})
        for route in routes
        if (endpoint := snapshot.endpoints.get(route.endpoint_id)) is not None
    )


def _load(observed: Observed, endpoint: Endpoint) -> EngineLoad | None:
    entry = observed.entry(endpoint)
    if entry is None:
        return None
    return EngineLoad(
        num_running=entry.num_running,
        num_waiting=entry.num_waiting,
        kv_used_bytes=entry.kv_used_bytes,
        kv_capacity_bytes=entry.kv_capacity_bytes,
        step_us=entry.step_us,
    )
