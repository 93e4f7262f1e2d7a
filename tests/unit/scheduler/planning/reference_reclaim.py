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
from tests.unit.scheduler.planning.reference_cluster import without
from tests.unit.scheduler.planning.reference_planner import choose


def reclaim(
    nodes: Sequence[Node],
    endpoints: Sequence[Endpoint],
    idle: Sequence[Endpoint],
    deployable: Deployable,
) -> Reclaim | None:
    """As few of `idle` as make room, those that are idle longest first; no victims when room that
    is already being freed will do. None when nothing would help."""
    leaving = [e for e in endpoints if e.state.is_finished or not e.state.can_take_requests]
    return _Search(without(nodes, leaving), deployable).run(idle)


def outlast(
    nodes: Sequence[Node], endpoints: Sequence[Endpoint], deployable: Deployable
) -> Plan | None:
    """What fits once as few as possible of all endpoints have ended, busy ones last; None when
    even then nothing does."""
    staying = [endpoint for endpoint in endpoints if endpoint.state.can_take_requests]
    found = reclaim(nodes, endpoints, staying, deployable)
    return None if found is None else found.plan


@dataclass(frozen=True)
class _Search:
    nodes: Sequence[Node]
    deployable: Deployable

    def run(self, idle: Sequence[Endpoint]) -> Reclaim | None:
        oldest = sorted(idle, key=_idle_since)
        found = self._try([]) or self._one_of(oldest[:MAX_SINGLES])
        return found if found is not None else self._several_of(oldest)

    def _try(self, victims: Sequence[Endpoint]) -> Reclaim | None:
        plan = choose(without(self.nodes, victims), self.deployable).plan
        return Reclaim(tuple(victims), plan) if isinstance(plan, Plan) else None

    def _one_of(self, oldest: Sequence[Endpoint]) -> Reclaim | None:
        tries = (self._try([endpoint]) for endpoint in oldest)
        return next((found for found in tries if found is not None), None)

    def _several_of(self, oldest: Sequence[Endpoint]) -> Reclaim | None:
        """The shortest row of the oldest that suffices, less those of it that need not go."""
        if self._try(oldest) is None:
            return None
        lengths = range(len(oldest) + 1)
        length = bisect_left(lengths, True, key=lambda n: self._try(oldest[:n]) is not None)
        found = self._try(oldest[:length])
        assert found is not None, "the search ended with a row that suffices"
        return self._spare(found, sorted(found.victims, key=_size_and_age))

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


def _size_and_age(endpoint: Endpoint) -> tuple[int, float]:
    """Small ones are spared first, so that few have to go; then those that were busy last."""
    return (sum(worker.device_bytes for worker in endpoint.workers), -_idle_since(endpoint))


def _idle_since(endpoint: Endpoint) -> float:
    """Busy ones come last."""
    return inf if endpoint.idle_since_s is None else endpoint.idle_since_s
