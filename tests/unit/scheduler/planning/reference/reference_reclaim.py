"""What gives way as one would first write it: each question plans the whole cluster anew. See
`reference_planner.py`."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from services.scheduler.policy.cluster import Deployable, Endpoint
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.planning.reclaim import MAX_SINGLES, Reclaim
from tests.unit.scheduler.planning.reference.reference_cluster import without
from tests.unit.scheduler.planning.reference.reference_planner import choose


def reclaim(
    nodes: Sequence[Node],
    endpoints: Sequence[Endpoint],
    order: Sequence[Endpoint],
    deployable: Deployable,
) -> Reclaim | None:
    """As few as make room of those that may go, the first in the order first; no victims when room
    that is already being freed will do. None when nothing would help."""
    leaving = [e for e in endpoints if e.state.is_finished or not e.state.can_take_requests]
    return _Search(without(nodes, leaving), deployable).run(order)


def outlast(
    nodes: Sequence[Node], endpoints: Sequence[Endpoint], deployable: Deployable
) -> Plan | None:
    """What fits once as few as possible of all endpoints have ended, busy ones last; None when
    even then nothing does."""
    staying = [endpoint for endpoint in endpoints if endpoint.state.can_take_requests]
    found = reclaim(nodes, endpoints, sorted(staying, key=_idle_since), deployable)
    return None if found is None else found.plan


@dataclass(frozen=True)
class _Search:
    nodes: Sequence[Node]
    deployable: Deployable

    def run(self, order: Sequence[Endpoint]) -> Reclaim | None:
        found = self._try([]) or self._one_of(order[:MAX_SINGLES])
        return found if found is not None else self._several_of(order)

    def _try(self, victims: Sequence[Endpoint]) -> Reclaim | None:
        plan = choose(without(self.nodes, victims), self.deployable).plan
        return Reclaim(tuple(victims), plan) if isinstance(plan, Plan) else None

    def _one_of(self, order: Sequence[Endpoint]) -> Reclaim | None:
        tries = (self._try([endpoint]) for endpoint in order)
        return next((found for found in tries if found is not None), None)

    def _several_of(self, order: Sequence[Endpoint]) -> Reclaim | None:
        """The shortest row of the first that suffices, less those of it that need not go: small
        ones are spared first, then those that come last."""
        if self._try(order) is None:
            return None
        lengths = range(len(order) + 1)
        length = bisect_left(lengths, True, key=lambda n: self._try(order[:n]) is not None)
        found = self._try(order[:length])
        assert found is not None, "the search ended with a row that suffices"
        return self._spare(found, sorted(reversed(found.victims), key=_size_bytes))

    def _spare(self, found: Reclaim, candidates: Sequence[Endpoint]) -> Reclaim:
        """As if each candidate in turn was spared where the others suffice, in fewer tries: all of
        them at once, or else the halves."""
        spared = {endpoint.id for endpoint in candidates}
        fewer = self._try([victim for victim in found.victims if victim.id not in spared])
        if fewer is not None:
            return fewer
        if len(candidates) == 1:
            return found
        middle = len(candidates) // 2
        return self._spare(self._spare(found, candidates[:middle]), candidates[middle:])


def _size_bytes(endpoint: Endpoint) -> int:
    return sum(worker.device_bytes for worker in endpoint.workers)


def _idle_since(endpoint: Endpoint) -> float:
    """Busy ones come last."""
    return inf if endpoint.idle_since_s is None else endpoint.idle_since_s
