"""Which idle endpoints give way to a model that waits for room. Pure."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf

from services.scheduler.policy.cluster import Deployable, Endpoint
from services.scheduler.policy.nodes.cluster import Cluster
from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.planning import planner
from services.scheduler.policy.planning.freed_room import FreedRoom
from services.scheduler.policy.planning.model_shape import ModelShape
from services.scheduler.policy.planning.planning_cost import PlanningCost
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.planning.projected_cluster import without

Victims = tuple[Endpoint, ...]

MAX_SINGLES = 64  # endpoints that are tried alone; beyond, one more or less does not matter


@dataclass(frozen=True)
class Reclaim:
    """What to drain, and what then fits: the room on these devices is spoken for."""

    victims: tuple[Endpoint, ...]
    plan: Plan


def reclaim(
    cluster: Cluster,
    endpoints: Sequence[Endpoint],
    order: Iterable[Endpoint],
    deployable: Deployable,
) -> Reclaim | None:
    """As few as make room of those that may go, the first in the order first; no victims when room
    that is already being freed will do. None when nothing would help."""
    leaving = [endpoint for endpoint in endpoints if is_leaving(endpoint)]
    return give_way(without(cluster, leaving), order, deployable)


def give_way(
    cluster: Cluster,
    order: Iterable[Endpoint],
    deployable: Deployable,
    cost: PlanningCost | None = None,
) -> Reclaim | None:
    """As `reclaim`, of a cluster that those who are leaving have left already; `order` is looked
    at only as far as it has to be. What that takes is added to `cost`."""
    return _Search(cluster, ModelShape(deployable), cost or PlanningCost()).run(order)


def outlast(
    cluster: Cluster,
    endpoints: Iterable[Endpoint],
    deployable: Deployable,
    cost: PlanningCost | None = None,
) -> Plan | None:
    """What fits once as few as possible of all endpoints have ended, busy ones last; None when
    even then nothing does. Those who are leaving have left the cluster already."""
    staying = (endpoint for endpoint in endpoints if endpoint.state.can_take_requests)
    found = give_way(cluster, longest_idle_first(staying), deployable, cost)
    return None if found is None else found.plan


def is_leaving(endpoint: Endpoint) -> bool:
    return endpoint.state.is_finished or not endpoint.state.can_take_requests


def longest_idle_first(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Busy ones come last."""
    return sorted(endpoints, key=_idle_since)


@dataclass(frozen=True)
class _Search:
    cluster: Cluster
    shape: ModelShape
    cost: PlanningCost

    def run(self, order: Iterable[Endpoint]) -> Reclaim | None:
        victims = self._victims(order)
        if victims is None:
            return None
        later = without(self.cluster, victims)
        choice = planner.choose_for(self.shape, later)
        self.cost.add_choice(later, choice)
        return Reclaim(victims, choice.plan) if isinstance(choice.plan, Plan) else None

    def _victims(self, order: Iterable[Endpoint]) -> Victims | None:
        """None where nobody's end would help."""
        found = self._try([])
        if found is None:
            found = self._one_of(islice(order, MAX_SINGLES))
        return found if found is not None else self._several_of(list(order))

    @cached_property
    def _freed(self) -> FreedRoom:
        return FreedRoom(self.cluster, self.shape)

    def _try(self, victims: Sequence[Endpoint]) -> Victims | None:
        self.cost.add_endpoints(len(victims))
        if not self._freed.may_suffice(victims):
            return None
        self.cost.add_plan(self.cluster, len(victims))
        is_enough = planner.fits(self.shape, without(self.cluster, victims))
        return tuple(victims) if is_enough else None

    def _one_of(self, order: Iterable[Endpoint]) -> Victims | None:
        tries = (self._try([endpoint]) for endpoint in order)
        return next((found for found in tries if found is not None), None)

    def _several_of(self, order: Sequence[Endpoint]) -> Victims | None:
        """The shortest row of the first that suffices, less those of it that need not go."""
        if self._try(order) is None:
            return None
        lengths = range(len(order) + 1)
        length = bisect_left(lengths, True, key=lambda n: self._try(order[:n]) is not None)
        found = self._try(order[:length])
        assert found is not None, "the search ended with a row that suffices"
        # Small ones are spared first, so that few have to go; then those that come last.
        return self._spare(found, sorted(reversed(found), key=_size_bytes))

    def _spare(self, found: Victims, candidates: Sequence[Endpoint]) -> Victims:
        """As if each candidate in turn was spared where the others suffice, in fewer tries: all of
        them at once, or else the halves."""
        spared = {endpoint.id for endpoint in candidates}
        fewer = self._try([victim for victim in found if victim.id not in spared])
        if fewer is not None:
            return fewer
        if len(candidates) == 1:
            return found
        middle = len(candidates) // 2
        return self._spare(self._spare(found, candidates[:middle]), candidates[middle:])


def _size_bytes(endpoint: Endpoint) -> int:
    return sum(worker.device_bytes for worker in endpoint.workers)


def _idle_since(endpoint: Endpoint) -> float:
    return inf if endpoint.idle_since_s is None else endpoint.idle_since_s
