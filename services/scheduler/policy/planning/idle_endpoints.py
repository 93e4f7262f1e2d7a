"""Endpoints that may be asked to give way, in an order, found only as far as asked. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.scaling.giving_way import may_give_way
from services.scheduler.policy.scaling.kept import num_spare
from services.scheduler.policy.scaling.occupants import (
    is_started_for_nobody,
    loss_of,
    occupant_of,
)
from services.scheduler.policy.scaling.reclaim_order import cheapest_first
from services.scheduler.policy.snapshot import Snapshot

# Of so many the loss is weighed; of more that are idle those that are longest. One more or less
# does not matter, and a round is to end in good time.
MAX_WEIGHED = 256


@dataclass
class NumTaken:
    """Counts endpoints that may be asked to go, by model: it keeps those that it shall always have,
    also where one reclaim takes several."""

    snapshot: Snapshot
    _live: Counter[str] = field(default_factory=Counter)
    _serving: Counter[str] = field(default_factory=Counter)

    def take(self, endpoint: Endpoint) -> bool:
        """Whether it may go beside those that were taken; if so it is taken."""
        model_id, is_serving = endpoint.model_id, endpoint.state.is_serving
        model = self.snapshot.models.get(model_id)
        num_taken = (self._serving if is_serving else self._live)[model_id]
        if model is not None and num_taken >= num_spare(self.snapshot, endpoint, model):
            return False
        self._live[model_id] += 1
        self._serving[model_id] += is_serving
        return True


@dataclass
class IdleEndpoints:
    """Walked more than once, each is judged once. `order`: those that were idle, or might give way,
    when the round began, of which some have been asked to go meanwhile. `waited_s`: by whoever
    would get the room. `taken`: also by others that are walked for the same room."""

    snapshot: Snapshot
    order: Sequence[Endpoint]
    taken: NumTaken
    waited_s: float = 0.0
    _found: list[Endpoint] = field(default_factory=list)
    _rest: Iterator[Endpoint] = field(init=False)

    def __post_init__(self) -> None:
        now = (self.snapshot.endpoints.get(endpoint.id) for endpoint in self.order)
        self._rest = (one for one in now if one is not None and self._may_go(one))

    def __iter__(self) -> Iterator[Endpoint]:
        yield from tuple(self._found)
        for endpoint in self._rest:
            self._found.append(endpoint)
            yield endpoint

    def _may_go(self, endpoint: Endpoint) -> bool:
        may_go = may_be_reclaimed(self.snapshot, endpoint, self.waited_s)
        return may_go and self.taken.take(endpoint)


def in_reclaim_order(snapshot: Snapshot, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Who is the cheapest to bring back first."""
    oldest = sorted(endpoints, key=lambda e: (e.idle_since_s is not None, e.idle_since_s or 0.0))
    weighed, others = oldest[:MAX_WEIGHED], oldest[MAX_WEIGHED:]
    return [*cheapest_first(weighed, lambda endpoint: loss_of(snapshot, endpoint)), *others]


def may_be_reclaimed(snapshot: Snapshot, endpoint: Endpoint, waited_s: float = 0.0) -> bool:
    if is_started_for_nobody(snapshot, endpoint):
        return True
    if not endpoint.state.is_serving or not all(w.is_desired for w in endpoint.workers):
        return False  # of one that has just become one worker the others come free anyhow
    return may_give_way(occupant_of(snapshot, endpoint), waited_s)
