"""Tells the gateways which endpoints they may send new requests to: on change, and regularly
because messages get lost.

A change costs what has changed: a message names the models whose routes are others now. What is
repeated goes in parts, spread over the interval, so that no message grows with the fleet.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from libs.common.bus.messages import ListRoutes, Route, RoutesPart, RoutesPublished
from libs.common.bus.route_parts import ALL_MODELS, MAX_PARTS, ModelBuckets, halves
from libs.common.bus.subjects import ROUTES
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.rounds.outgoing import Outgoing
from services.scheduler.rounds.routes import closed_endpoints, routes_of, with_loads

logger = logging.getLogger(__name__)

Table = dict[str, tuple[Route, ...]]  # by model

ROUTES_PER_PART = 256  # about: 60 KB
MAX_ROUTES = 2_000  # in a message: at most 700 KB, with ids as long as may be


@dataclass
class _Pass:
    """One repetition of everything."""

    began_s: float
    num_parts: int
    num_sent: int = 0

    def num_due(self, now_s: float, interval_s: float) -> int:
        """Of its parts, the first at once and the last before the interval is over."""
        share = (now_s - self.began_s) / interval_s if interval_s > 0 else 1.0
        return min(self.num_parts, 1 + int(share * self.num_parts))


@dataclass(frozen=True)
class _PartTable:
    """All routes of the models of a part, without loads."""

    part: RoutesPart
    routes: Table


@dataclass
class RoutePublisher:
    """Loads change all the time: they go with the routes, and are no reason to publish them."""

    leader_epoch: int
    interval_s: float
    _told: Table = field(default_factory=dict)  # without loads
    _num_told: int = 0  # routes
    _known: ModelBuckets = field(default_factory=ModelBuckets)  # at least all models with routes
    _closed: frozenset[str] = frozenset()  # endpoints, in the last snapshot
    _pass: _Pass | None = None  # None: nothing is known of what was told

    def forget(self) -> None:
        """What has changed since the last round is not known: everything is told anew."""
        self._pass = None

    def due(self, snapshot: Snapshot, changed_models: Iterable[str] = ()) -> list[Outgoing]:
        """What is to be told now. `changed_models`: about which something was decided."""
        if self._pass is None:
            return self._everything(snapshot)
        changed, self._closed = self._changed(snapshot, changed_models)
        repeated = self._due_parts(snapshot, self._pass)
        messages = (*_in_messages(self.leader_epoch, changed), *repeated)
        return [Outgoing(ROUTES, None, message) for message in messages]

    def listed(self, snapshot: Snapshot, asked: ListRoutes) -> RoutesPublished:
        """For a gateway that has just begun: of the part, or of the first of those within it."""
        num_parts = max(asked.part.num_parts, self._num_parts)
        part = RoutesPart(part=asked.part.part, num_parts=num_parts)
        found = next(self._tables(snapshot, part, closed_endpoints(snapshot)))
        return self._message(snapshot, found)

    # ------------------------------------------------------------------ on change

    def _changed(
        self, snapshot: Snapshot, changed_models: Iterable[str]
    ) -> tuple[Table, frozenset[str]]:
        """By model, what differs from what was told; and the endpoints that are closed now."""
        closed = closed_endpoints(snapshot)
        moved = (snapshot.endpoints.get(id_) for id_ in closed ^ self._closed)
        models = {*changed_models, *(endpoint.model_id for endpoint in moved if endpoint)}
        changed: Table = {}
        for model_id in sorted(models):
            routes = routes_of(snapshot, model_id, closed, MAX_ROUTES)
            if routes != self._told.get(model_id, ()):
                self._note_told(model_id, routes)
                changed[model_id] = with_loads(snapshot, routes)
        return changed, closed

    def _note_told(self, model_id: str, routes: tuple[Route, ...]) -> None:
        self._num_told += len(routes) - len(self._told.get(model_id, ()))
        if routes:
            self._told[model_id] = routes
            self._known.add(model_id)
        else:
            self._told.pop(model_id, None)

    # ------------------------------------------------------------------ regularly

    @property
    def _num_parts(self) -> int:
        """As many as there are told routes for, in powers of two."""
        num_wanted = -(-self._num_told // ROUTES_PER_PART)
        return min(MAX_PARTS, 1 << max(0, num_wanted - 1).bit_length())

    def _everything(self, snapshot: Snapshot) -> list[Outgoing]:
        """At once: gateways know nothing of this leader yet."""
        self._closed = closed_endpoints(snapshot)
        self._know_models(snapshot)
        for model_id in tuple(self._known.of(ALL_MODELS)):
            self._note_told(model_id, routes_of(snapshot, model_id, self._closed, MAX_ROUTES))
        self._pass = _Pass(snapshot.now_s, self._num_parts)
        messages = self._next_parts(snapshot, self._pass, self._pass.num_parts)
        return [Outgoing(ROUTES, None, message) for message in messages]

    def _due_parts(self, snapshot: Snapshot, running: _Pass) -> Iterator[RoutesPublished]:
        if snapshot.now_s - running.began_s >= self.interval_s:
            yield from self._next_parts(snapshot, running, running.num_parts)
            self._know_models(snapshot)
            self._pass = running = _Pass(snapshot.now_s, self._num_parts)
        num_due = running.num_due(snapshot.now_s, self.interval_s)
        yield from self._next_parts(snapshot, running, num_due)

    def _next_parts(
        self, snapshot: Snapshot, running: _Pass, num_due: int
    ) -> Iterator[RoutesPublished]:
        while running.num_sent < num_due:
            part = RoutesPart(part=running.num_sent, num_parts=running.num_parts)
            running.num_sent += 1
            yield from self._told_parts(snapshot, part)

    def _told_parts(self, snapshot: Snapshot, part: RoutesPart) -> Iterator[RoutesPublished]:
        for found in self._tables(snapshot, part, self._closed):
            for model_id in tuple(self._known.of(found.part)):
                routes = found.routes.get(model_id, ())
                self._note_told(model_id, routes)
                if not routes:
                    self._known.discard(model_id)
            yield self._message(snapshot, found)

    def _know_models(self, snapshot: Snapshot) -> None:
        """Also those of which a round may have forgotten to speak."""
        for model_id in snapshot.endpoints.keys_of("model"):
            if model_id not in self._told:
                self._known.add(model_id)

    def _tables(
        self, snapshot: Snapshot, part: RoutesPart, closed: frozenset[str]
    ) -> Iterator[_PartTable]:
        """The complete truth about the part, in as many tables as that takes."""
        routes = {
            model_id: found
            for model_id in sorted(self._known.of(part))
            if (found := routes_of(snapshot, model_id, closed, MAX_ROUTES))
        }
        num_routes = sum(map(len, routes.values()))
        if num_routes > MAX_ROUTES and len(routes) > 1 and part.num_parts < MAX_PARTS:
            for half in halves(part):
                yield from self._tables(snapshot, half, closed)
        else:
            yield _PartTable(part, routes)

    def _message(self, snapshot: Snapshot, found: _PartTable) -> RoutesPublished:
        for model_id, routes in found.routes.items():
            num_endpoints = snapshot.endpoints.count("model", model_id)
            if len(routes) == MAX_ROUTES < num_endpoints:
                logger.warning(
                    "gateways know %d of %d endpoints of %s", MAX_ROUTES, num_endpoints, model_id
                )
        loaded = {id_: with_loads(snapshot, routes) for id_, routes in found.routes.items()}
        return RoutesPublished(leader_epoch=self.leader_epoch, routes=loaded, part=found.part)


def _in_messages(leader_epoch: int, table: Table) -> Iterator[RoutesPublished]:
    """Models that changed, as many in a message as it may hold."""
    chunk: Table = {}
    num_entries = 0
    for model_id, routes in table.items():
        num_entries += max(1, len(routes))
        if chunk and num_entries > MAX_ROUTES:
            yield RoutesPublished(leader_epoch=leader_epoch, routes=chunk)
            chunk, num_entries = {}, max(1, len(routes))
        chunk[model_id] = routes
    if chunk:
        yield RoutesPublished(leader_epoch=leader_epoch, routes=chunk)
