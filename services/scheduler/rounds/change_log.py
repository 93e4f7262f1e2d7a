"""Collects what changes between two rounds: from handlers of messages, and from rounds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from services.scheduler.observation.news import News
from services.scheduler.policy.changes import Changed
from services.scheduler.policy.nodes.cached_units import UnitsChanged


@dataclass
class ChangeLog:
    """Ids; `take` hands them to a round. `put_back` is for a round that failed."""

    nodes: set[str] = field(default_factory=set)  # that said anything new
    whole_nodes: set[str] = field(default_factory=set)  # of them: all that runs there is looked at
    endpoints: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)
    requests: set[str] = field(default_factory=set)  # whose model is not known
    submitted: set[str] = field(default_factory=set)  # requests for which somebody waits
    losses: dict[str, float] = field(default_factory=dict)  # reported, by endpoint
    is_continued: bool = False
    host_caches: list[dict[str, UnitsChanged]] = field(default_factory=list)  # rows, by node
    are_host_caches_unknown: bool = False  # some rows were perhaps written
    is_of_submissions: bool = False  # taken alone, ahead of all else

    def hear(self, node_id: str, news: News) -> None:
        self.nodes.add(node_id)
        self.endpoints |= news.endpoints
        if news.is_of_node:
            self.whole_nodes.add(node_id)

    def look_at_nodes(self, node_ids: Iterable[str]) -> None:
        """At all that runs there."""
        self.nodes.update(node_ids)
        self.whole_nodes.update(node_ids)

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
        taken = replace(self, requests=self.requests | self.submitted, submitted=set())
        self.submitted = set()
        self.nodes, self.whole_nodes, self.endpoints = set(), set(), set()
        self.models, self.requests = set(), set()
        self.losses, self.is_continued = {}, False
        self.host_caches, self.are_host_caches_unknown = [], False
        return taken

    def take_submitted(self) -> "ChangeLog":
        """These with the losses that they were told with; all else is left for the next round."""
        taken = ChangeLog(
            requests=self.submitted,
            losses=self.losses,
            endpoints=set(self.losses),
            is_of_submissions=True,
        )
        self.submitted, self.losses = set(), {}
        return taken

    def put_back(self, taken: "ChangeLog") -> None:
        self.nodes |= taken.nodes
        self.whole_nodes |= taken.whole_nodes
        self.endpoints |= taken.endpoints
        self.models |= taken.models
        self.requests |= taken.requests
        self.losses = {**self.losses, **taken.losses}
        self.is_continued |= taken.is_continued
        self.are_host_caches_unknown = True

    def changed(self, *, is_sweep: bool) -> Changed:
        return Changed(
            frozenset(self.whole_nodes),
            frozenset(self.nodes - self.whole_nodes),
            frozenset(self.endpoints),
            frozenset(self.models),
            is_sweep,
            self.is_continued,
        )
