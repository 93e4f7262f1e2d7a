"""Keeps waiting clients informed: at every change of phase, and every other second."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from libs.common.bus.messages import RequestProgressed
from libs.common.bus.subjects import REQUEST_PROGRESS
from libs.common.reasons import Reason
from libs.common.states import EndpointState
from services.scheduler.policy.cluster import OpenRequest
from services.scheduler.policy.rules.endpoints import progress_of
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.policy.start_progress import Phase, StartProgress
from services.scheduler.rounds.outgoing import Outgoing


@dataclass(frozen=True)
class _Told:
    endpoint_id: str | None
    phase: Phase
    reason: Reason | None
    at_s: float


@dataclass(frozen=True)
class _Waiting:
    request: OpenRequest
    start: StartProgress
    position: int | None  # among the queued ones of its model; None once assigned
    reason: Reason | None = None  # why it is queued


@dataclass
class ProgressReporter:
    """Remembers what each client was told last."""

    interval_s: float
    _told: dict[str, _Told] = field(default_factory=dict)  # by request
    _looked_at_s: float = -inf

    def due(self, snapshot: Snapshot) -> list[Outgoing]:
        """What is to be told now."""
        now_s = snapshot.now_s
        if now_s - self._looked_at_s < self.interval_s / 8:
            return []
        self._looked_at_s = now_s
        outgoing, told = [], {}
        for waiting in _waiting(snapshot):
            last = self._told.get(waiting.request.id)
            phase, reason = waiting.start.phase, waiting.reason
            is_told = last is not None and (last.phase, last.reason) == (phase, reason)
            if last is not None and is_told and now_s - last.at_s < self.interval_s:
                told[waiting.request.id] = last
                continue
            outgoing.append(_message(waiting))
            told[waiting.request.id] = _Told(waiting.request.endpoint_id, phase, reason, now_s)
        for request_id in self._told.keys() - told.keys():
            if self._is_served(snapshot, self._told[request_id]):
                ready = RequestProgressed(request_id=request_id, phase="ready")
                outgoing.append(Outgoing(REQUEST_PROGRESS, request_id, ready))
        self._told = told
        return outgoing

    @staticmethod
    def _is_served(snapshot: Snapshot, told: _Told) -> bool:
        endpoint = snapshot.endpoints.get(told.endpoint_id)
        return endpoint is not None and endpoint.state.is_serving


def _waiting(snapshot: Snapshot) -> Iterator[_Waiting]:
    """Queued requests, those assigned to an endpoint that still starts, and those whose endpoint
    failed: their gateways learn from it that they wait again."""
    queued = StartProgress("queued")
    for model_id in list(snapshot.requests.keys_of("queue")):
        reason = snapshot.waits_for(model_id)
        for position, request in enumerate(snapshot.queued(model_id)):
            yield _Waiting(request, queued, position, reason)
    for endpoint in snapshot.endpoints:
        if endpoint.state is EndpointState.STARTING:
            start = progress_of(snapshot, endpoint)
            for request in snapshot.requests.by("endpoint", endpoint.id):
                yield _Waiting(request, start, None)
    for endpoint_id in snapshot.failures:
        for request in snapshot.requests.by("endpoint", endpoint_id):
            if snapshot.is_orphaned(request):
                yield _Waiting(request, queued, None)


def _message(waiting: _Waiting) -> Outgoing:
    message = RequestProgressed(
        request_id=waiting.request.id,
        phase=waiting.start.phase,
        queue_position=waiting.position,
        bytes_done=waiting.start.bytes_done,
        bytes_total=waiting.start.bytes_total,
        reason=waiting.reason,
    )
    return Outgoing(REQUEST_PROGRESS, waiting.request.id, message)
