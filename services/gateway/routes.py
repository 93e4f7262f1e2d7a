"""Which endpoints serve a model now, as the scheduler published: a hint, never a promise."""

import random
from collections import Counter
from dataclasses import dataclass

from libs.common.clock import Clock
from libs.common.messages import Route, RoutesPublished

_REFUSED_S = 0.5  # an endpoint that refused is not asked again for so long
_EXPIRES_S = 20.0  # they are republished every 5 s; a silent scheduler's routes are worth nothing


@dataclass(frozen=True)
class _Published:
    message: RoutesPublished
    heard_at_s: float


class Routes:
    """Counts what this gateway itself runs on each endpoint, so that it asks the emptiest first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._published: _Published | None = None
        self._num_running: Counter[str] = Counter()
        self._refused_at_s: dict[str, float] = {}

    async def heard(self, message: RoutesPublished) -> None:
        """A handler of ROUTES. A deposed leader's routes are older than what we have."""
        known = self._published
        if known is None or message.leader_epoch >= known.message.leader_epoch:
            self._published = _Published(message, self._clock.monotonic_s())
            self._refused_at_s.clear()

    def candidates(self, model_id: str) -> tuple[Route, ...]:
        """Endpoints that may have room, emptiest first, equal ones in random order."""
        if self._published is None or self._age_s(self._published.heard_at_s) > _EXPIRES_S:
            return ()
        routes = self._published.message.routes.get(model_id, ())
        free = [route for route in routes if self._has_room(route)]
        random.shuffle(free)
        return tuple(sorted(free, key=lambda route: self._num_running[route.endpoint_id]))

    def refused(self, endpoint_id: str) -> None:
        self._refused_at_s[endpoint_id] = self._clock.monotonic_s()

    def began(self, endpoint_id: str) -> None:
        self._num_running[endpoint_id] += 1

    def ended(self, endpoint_id: str) -> None:
        self._num_running[endpoint_id] -= 1
        if self._num_running[endpoint_id] <= 0:
            del self._num_running[endpoint_id]

    def _has_room(self, route: Route) -> bool:
        refused_at_s = self._refused_at_s.get(route.endpoint_id)
        if refused_at_s is not None and self._age_s(refused_at_s) < _REFUSED_S:
            return False
        return self._num_running[route.endpoint_id] < route.max_slots

    def _age_s(self, moment_s: float) -> float:
        return self._clock.monotonic_s() - moment_s
