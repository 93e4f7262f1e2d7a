"""The routing table: which endpoints serve a model now, as the scheduler published it.

It is a hint, which does not grow wrong by age: while the scheduler or Postgres is away, warm
traffic goes on by the last routes received, and an endpoint that is gone does not answer.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from libs.common.bus.messages import EngineLoad, Route, RoutesPublished
from libs.common.clock import Clock

_REFUSED_S = 0.5  # an endpoint that refused is not asked again for so long


class RouteTable:
    """Counts what this gateway itself runs on each endpoint, so that it asks the emptiest first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._published = RoutesPublished(leader_epoch=0, routes={})
        self._num_running: Counter[str] = Counter()
        self._refused_at_s: dict[str, float] = {}
        self._watchers: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)

    async def on_published(self, message: RoutesPublished) -> None:
        """A handler of ROUTES. A deposed leader's routes are older than what we have."""
        known = self._published
        if message.leader_epoch >= known.leader_epoch:
            self._published = message
            self._refused_at_s.clear()
            for endpoint_id in _endpoint_ids(known) - _endpoint_ids(message):
                for withdrawn in self._watchers.get(endpoint_id, ()):
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
        routes = self._published.routes.get(model_id, ())
        free = [route for route in routes if self._has_free_slot(route)]
        random.shuffle(free)
        return tuple(sorted(free, key=lambda route: self._num_running[route.endpoint_id]))

    @property
    def loads(self) -> dict[tuple[str, str], EngineLoad]:
        """What was last said of the engines, by model and endpoint."""
        return {
            (model_id, route.endpoint_id): route.load
            for model_id, routes in self._published.routes.items()
            for route in routes
            if route.load is not None
        }

    def mark_refused(self, endpoint_id: str) -> None:
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


def _endpoint_ids(message: RoutesPublished) -> set[str]:
    return {route.endpoint_id for routes in message.routes.values() for route in routes}
