"""What is kept of each request and each start of a run: numbers in columns."""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from math import nan

from services.scheduler.policy.cluster import Endpoint
from services.scheduler.simulation.cluster.request import SimulatedRequest


@dataclass(frozen=True)
class RecordedStart:
    model_id: str
    at_s: float  # when it was decided
    num_stages: int


@dataclass(eq=False)
class Recorder:
    """Requests in the order in which they ended. NaN: it never had it. `messages_s`: what the bus
    adds to the time to the first token, from the gateway to the worker and back."""

    messages_s: float = 0.0
    indexes: "array[int]" = field(default_factory=lambda: array("q"))  # by order of arrival
    model_ids: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    arrived_at_s: "array[float]" = field(default_factory=lambda: array("d"))
    ttft_s: "array[float]" = field(default_factory=lambda: array("d"))
    tpot_s: "array[float]" = field(default_factory=lambda: array("d"))
    are_cold: "array[int]" = field(default_factory=lambda: array("b"))
    reasons: Counter[str] = field(default_factory=Counter)  # of requests that were not served
    num_unended: int = 0  # when the run was over
    starts_by_model: Counter[str] = field(default_factory=Counter)
    starts_by_stages: Counter[int] = field(default_factory=Counter)
    starts: list[RecordedStart] = field(default_factory=list)

    def add(self, request: SimulatedRequest) -> None:
        is_served = request.ended_at_s is not None and request.end_reason is None
        ttft_s, tpot_s = request.ttft_s, request.tpot_s
        self.indexes.append(request.index)
        self.model_ids.append(request.model_id)
        self.groups.append(request.group)
        self.arrived_at_s.append(request.arrived_at_s)
        self.ttft_s.append(nan if ttft_s is None or not is_served else ttft_s + self.messages_s)
        self.tpot_s.append(nan if tpot_s is None or not is_served else tpot_s)
        self.are_cold.append(request.is_cold)
        if request.end_reason is not None:
            self.reasons[request.end_reason.value] += 1
        elif not is_served:
            self.num_unended += 1

    def add_start(self, endpoint: Endpoint, now_s: float) -> None:
        self.starts_by_model[endpoint.model_id] += 1
        self.starts_by_stages[endpoint.num_stages] += 1
        self.starts.append(RecordedStart(endpoint.model_id, now_s, endpoint.num_stages))
