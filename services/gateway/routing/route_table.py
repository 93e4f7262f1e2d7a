"""The routing table: which endpoints serve a model now, as the scheduler published it.

It is a hint, which does not grow wrong by age: while the scheduler or Postgres is away, warm
traffic goes on by the last routes received, and an endpoint that is gone does not answer.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from libs.common.bus.messages import EngineLoad, Route, RoutesPublished
from libs.common.bus.route_parts import ModelBuckets
from libs.common.clock import Clock

_REFUSED_S = 0.5  # an endpoint that refused is not asked again for so long
_MAX_REFUSED = 4_096  # remembered; a refusal may come when its route has gone


class RouteTable:
    """Counts what this gateway itself runs on each endpoint, so that it asks the emptiest first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._leader_epoch = 0
        self._routes: dict[str, tuple[Route, ...]] = {}  # by model; none is empty
        self._models = ModelBuckets()  # those of `_routes`
        self._num_running: Counter[str] = Counter()
        self._refused_at_s: dict[str, float] = {}
        self._watchers: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)

    async def on_published(self, message: RoutesPublished) -> None:
        """A handler of ROUTES. A deposed leader's routes are older than what we have; those that it
        told before stand until its successor has spoken of their part."""
        if message.leader_epoch < self._leader_epoch:
            return
        self._leader_epoch = message.leader_epoch
        if message.part is not None:
            known = tuple(self._models.of(message.part))
            for model_id in known:
                if model_id not in message.routes:
                    self._replace(model_id, ())
        for model_id, routes in message.routes.items():
            self._replace(model_id, routes)

    def _replace(self, model_id: str, routes: tuple[Route, ...]) -> None:
        """The model has these routes and no others. Whoever refused may be asked again."""
        before = _endpoint_ids(self._routes.pop(model_id, ()))
        if routes:
            self._routes[model_id] = routes
            self._models.add(model_id)
        else:
            self._models.discard(model_id)
        now = _endpoint_ids(routes)
        for endpoint_id in before | now:
            self._refused_at_s.pop(endpoint_id, None)
        for endpoint_id in before - now:
            for withdrawn in tuple(self._watchers.get(endpoint_id, ())):
                withdrawn()

    @contextmanager
    def watching(self, endpoint_id: str, withdrawn: Callable[[], None]) -> Iterator[None]:
        """Call `withdrawn` when the endpoint's route is: it failed, or it drains."""
        watchers = self._watchers[endpoint_id]
        watchers.append(withdrawn)
        try:
            yield
        finally:
            watchers.remove(withdrawn)
            if not watchers:
                self._watchers.pop(endpoint_id, None)

    def candidates(self, model_id: str) -> tuple[Route, ...]:
        """Endpoints that may have a free slot, emptiest first, equal ones in random order."""
        routes = self._routes.get(model_id, ())
        free = [route for route in routes if self._has_free_slot(route)]
        random.shuffle(free)
        return tuple(sorted(free, key=lambda route: self._num_running[route.endpoint_id]))

    @property
    def loads(self) -> dict[tuple[str, str], EngineLoad]:
        """What was last said of the engines, by model and endpoint."""
        return {
            (model_id, route.endpoint_id): route.load
            for model_id, routes in self._routes.items()
            for route in routes
            if route.load is not None
        }

    def mark_refused(self, endpoint_id: str) -> None:
        """It is not asked for a moment, or until its model's routes are told again."""
        if len(self._refused_at_s) >= _MAX_REFUSED:
            self._refused_at_s.clear()
        self._refused_at_s[endpoint_id] = self._clock.monotonic_s()

    def count_started(self, endpoint_id: str) -> None:
        self._num_running[endpoint_id] += 1

    def count_ended(self, endpoint_id: str) -> None:
        self._num_running[endpoint_id] -= 1
        if self._num_running[endpoint_id] <= 0:
            del self._num_running[endpoint_id]

    def _has_free_slot(self, route: Route) -> bool:
        refused_at_s = self._refused_at_s.get(route.endpoint_id)
        if refused_at_s is not None and self._age_s(refused_at_s) < _REFUSED_S:
            return False
        return self._num_running[route.endpoint_id] < route.max_slots

    def _age_s(self, moment_s: float) -> float:
        return self._clock.monotonic_s() - moment_s


def _endpoint_ids(routes: tuple[Route, ...]) -> set[str]:
    return {route.endpoint_id for route in routes}
