"""Collects what changes between two rounds: from handlers of messages, and from rounds."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.scheduler.policy.changes import Changed
from services.scheduler.policy.nodes.cached_units import UnitsChanged


@dataclass
class ChangeLog:
    """Ids; `take` hands them to a round. `put_back` is for a round that failed."""

    nodes: set[str] = field(default_factory=set)
    endpoints: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)
    requests: set[str] = field(default_factory=set)  # whose model is not known
    losses: dict[str, float] = field(default_factory=dict)  # reported, by endpoint
    is_continued: bool = False
    host_caches: list[dict[str, UnitsChanged]] = field(default_factory=list)  # rows, by node
    are_host_caches_unknown: bool = False  # some rows were perhaps written

    def report_loss(self, endpoint_id: str, now_s: float) -> None:
        """A gateway could not reach it."""
        self.losses.setdefault(endpoint_id, now_s)
        self.endpoints.add(endpoint_id)

    def note_host_caches(self, changed: Mapping[str, UnitsChanged] | None) -> None:
        """Somebody else than a round has changed rows; None: perhaps."""
        if changed is None:
            self.are_host_caches_unknown = True
        elif changed:
            self.host_caches.append(dict(changed))

    def take(self) -> "ChangeLog":
        taken = replace(self)
        self.nodes, self.endpoints, self.models, self.requests = set(), set(), set(), set()
        self.losses, self.is_continued = {}, False
        self.host_caches, self.are_host_caches_unknown = [], False
        return taken

    def put_back(self, taken: "ChangeLog") -> None:
        self.nodes |= taken.nodes
        self.endpoints |= taken.endpoints
        self.models |= taken.models
        self.requests |= taken.requests
        self.losses = {**self.losses, **taken.losses}
        self.is_continued |= taken.is_continued
        self.are_host_caches_unknown = True

    def changed(self, *, is_sweep: bool) -> Changed:
        return Changed(
            frozenset(self.nodes),
            frozenset(self.endpoints),
            frozenset(self.models),
            is_sweep,
            self.is_continued,
        )
