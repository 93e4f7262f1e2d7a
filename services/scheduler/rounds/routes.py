"""Tells the gateways which endpoints they may send new requests to: on change, and regularly
because messages get lost."""

from collections import defaultdict
from dataclasses import dataclass

from libs.common.bus.messages import EngineLoad, Route, RoutesPublished
from libs.common.bus.subjects import ROUTES
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.failures.isolation import all_endpoints_taken
from services.scheduler.policy.observed import Observed
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.rounds.outgoing import Outgoing

Table = dict[str, tuple[Route, ...]]


def routes_of(snapshot: Snapshot) -> Table:
    """By model. Endpoints that a gateway could not reach are left out until seen again, and those
    on which a request must be alone until it is not any more."""
    table: defaultdict[str, list[Route]] = defaultdict(list)
    taken = all_endpoints_taken(snapshot)
    for endpoint in snapshot.endpoints:
        is_closed = snapshot.has_unconfirmed_loss(endpoint.id) or endpoint.id in taken
        if endpoint.state.is_serving and not is_closed:
            route = Route(
                endpoint_id=endpoint.id,
                epoch=endpoint.epoch,
                max_slots=endpoint.max_slots,
                load=_load(snapshot.observed, endpoint),
            )
            table[endpoint.model_id].append(route)
    return {model_id: tuple(routes) for model_id, routes in table.items()}


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


@dataclass
class RoutePublisher:
    """Loads change all the time: they go with the routes, and are no reason to publish them."""

    leader_epoch: int
    interval_s: float
    _last: Table | None = None
    _of: tuple[object, ...] = ()  # what the last table was made of
    _sent_at_s: float = 0.0

    def due(self, snapshot: Snapshot) -> list[Outgoing]:
        """The route table, if it has changed or is to be repeated."""
        is_recent = self._last is not None and snapshot.now_s - self._sent_at_s < self.interval_s
        of = (
            snapshot.endpoints,
            dict(snapshot.losses),
            dict(snapshot.echoes_since_s),
            all_endpoints_taken(snapshot),
        )
        if is_recent and of[0] is self._of[0] and of[1:] == self._of[1:]:
            return []
        table = routes_of(snapshot)
        bare = _without_loads(table)
        self._of = of
        if is_recent and bare == self._last:
            return []
        self._last, self._sent_at_s = bare, snapshot.now_s
        message = RoutesPublished(leader_epoch=self.leader_epoch, routes=table)
        return [Outgoing(ROUTES, None, message)]


def _without_loads(table: Table) -> Table:
    return {
        model_id: tuple(route.model_copy(update={"load": None}) for route in routes)
        for model_id, routes in table.items()
    }
