"""How many endpoints a model shall have. Pure.

Little's law says how many requests are in the system at any time: arrivals per second times the
seconds that each is served. So the model needs

    ceil(max(waiting + running, arrivals x service / 0.8) / slots)

endpoints. The first term is who is there now: a burst is answered with all the endpoints that it
takes, at once. The second is who will be there if they go on to come as in the last seconds: it
starts another endpoint before the slots are used up, because a start takes time. Of the slots 80 %
are planned for: where all are in use, requests that come by chance a little closer together wait.

Endpoints that start are counted as if they were there, and nothing waits for them: what comes
during a cold start raises the need, and the difference starts beside it. Where pipelines are
consolidated, one of which `w` members have memory for the whole model becomes `w` endpoints, and
counts as that many from its plan on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from libs.common.states import MemberMemory
from services.scheduler.policy.cluster import Endpoint

TARGET_USE = 0.8  # of the slots, by requests that are expected


@dataclass(frozen=True)
class Load:
    """Of one model. What its requests take is predicted; 0: nobody can say."""

    num_waiting: int = 0  # without a slot
    num_running: int = 0  # that hold one
    arrivals_per_s: float = 0.0
    service_s: float = 0.0

    @property
    def num_expected(self) -> float:
        """Requests that are served at any time, if they go on to come as they do."""
        return self.arrivals_per_s * self.service_s


@dataclass(frozen=True)
class EndpointBounds:
    """Of a model's endpoints, as its settings say. Where they disagree the upper one counts."""

    at_least: int = 0
    at_most: int = 1

    def clamp(self, num_endpoints: int) -> int:
        return min(max(num_endpoints, self.at_least), self.at_most)


def needed_endpoints(load: Load, max_slots: int) -> int:
    num_requests = max(load.num_waiting + load.num_running, load.num_expected / TARGET_USE)
    return ceil(num_requests / max_slots)


def missing_endpoints(needed: int, num_future: int, bounds: EndpointBounds) -> int:
    """How many to start at once. `num_future`: endpoints that there are, or will be once what
    starts is there (`future_endpoints`)."""
    return max(0, bounds.clamp(needed) - num_future)


def kept_endpoints(needed: int, bounds: EndpointBounds) -> int:
    """How many stay where there are more. The last one goes by its keep-alive alone. `needed`: the
    most that was needed for a while (`need_history.py`)."""
    return max(bounds.clamp(needed), 1)


def surplus_endpoints(needed: int, num_serving: int, bounds: EndpointBounds) -> int:
    """How many of those that serve may go. One that starts answers nobody yet, and may fail."""
    return max(0, num_serving - kept_endpoints(needed, bounds))


def future_endpoints(endpoints: Iterable[Endpoint], *, can_consolidate: bool) -> int:
    """What these are, or become: endpoints that can take requests, or start. Where pipelines are
    not consolidated each stays one, whatever memory its members have."""
    return sum(map(_num_becoming, endpoints)) if can_consolidate else sum(1 for _ in endpoints)


def _num_becoming(endpoint: Endpoint) -> int:
    """It, and what becomes of workers that are left of the pipeline that it was."""
    members = {member.worker_id for member in endpoint.members}
    left = sum(worker.id not in members for worker in endpoint.growing_workers)
    return max(1, _num_full(endpoint)) + left


def _num_full(endpoint: Endpoint) -> int:
    """Members with memory for the whole model."""
    return sum(member.memory is MemberMemory.FULL for member in endpoint.members)
