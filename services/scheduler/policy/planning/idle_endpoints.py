"""Endpoints that may be asked to give way, longest idle first, found only as far as asked. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from libs.common.states import EndpointState
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.snapshot import Snapshot

MIN_IDLE_S = 1.0  # an endpoint that answered a moment ago is not taken away


@dataclass
class IdleEndpoints:
    """Walked more than once, each is judged once. `oldest`: those that were idle when the round
    began, of which some have been asked to go meanwhile."""

    snapshot: Snapshot
    oldest: Sequence[Endpoint]
    _found: list[Endpoint] = field(default_factory=list)
    _rest: Iterator[Endpoint] = field(init=False)

    def __post_init__(self) -> None:
        self._rest = _reclaimable(self.snapshot, self.oldest)

    def __iter__(self) -> Iterator[Endpoint]:
        yield from tuple(self._found)
        for endpoint in self._rest:
            self._found.append(endpoint)
            yield endpoint


def _reclaimable(snapshot: Snapshot, endpoints: Iterable[Endpoint]) -> Iterator[Endpoint]:
    now = (snapshot.endpoints.get(endpoint.id) for endpoint in endpoints)
    return (one for one in now if one is not None and may_be_reclaimed(snapshot, one))


def may_be_reclaimed(snapshot: Snapshot, endpoint: Endpoint) -> bool:
    idle_s = endpoint.idle_s(snapshot.now_s)
    is_idle = idle_s is not None and idle_s >= MIN_IDLE_S
    may_end = endpoint.state in (EndpointState.STANDALONE, EndpointState.PIPELINED)
    if not may_end or not is_idle or snapshot.num_assigned(endpoint.id):
        return False
    demand = snapshot.demand(endpoint.model_id)
    return demand.num_waiting + demand.num_unheard == 0
