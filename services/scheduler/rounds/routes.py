"""Tells the gateways which endpoints serve: on change, and regularly because messages get lost."""

from collections import defaultdict
from dataclasses import dataclass

from libs.common.bus.messages import EngineLoad, Route, RoutesPublished
from libs.common.bus.subjects import ROUTES
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.observed import Observed
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.rounds.outgoing import Outgoing

Table = dict[str, tuple[Route, ...]]


def routes_of(snapshot: Snapshot) -> Table:
    """By model; endpoints that a gateway could not reach are left out until seen again."""
    table: defaultdict[str, list[Route]] = defaultdict(list)
    for endpoint in snapshot.endpoints:
        if endpoint.state.is_serving and not snapshot.has_unconfirmed_loss(endpoint.id):
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
    _sent_at_s: float = 0.0

    def due(self, table: Table, now_s: float) -> Outgoing | None:
        is_repeat = self._last is not None and now_s - self._sent_at_s < self.interval_s
        bare = _without_loads(table)
        if bare == self._last and is_repeat:
            return None
        self._last, self._sent_at_s = bare, now_s
        message = RoutesPublished(leader_epoch=self.leader_epoch, routes=table)
        return Outgoing(ROUTES, None, message)


def _without_loads(table: Table) -> Table:
    return {
        model_id: tuple(route.model_copy(update={"load": None}) for route in routes)
        for model_id, routes in table.items()
    }
