"""Keeps waiting clients informed: at every change of phase, and every other second of a start.

Of a request that goes on waiting in the queue its gateway asks itself, for all that wait together.
"""

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

_QUEUED = StartProgress("queued")


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
    reason: Reason | None = None  # why it is queued


@dataclass(frozen=True)
class _ToldQueue:
    """A model's queued requests, all of which were told why they are."""

    version: object  # the same while nothing of the queue has changed
    reason: Reason | None
    request_ids: frozenset[str]


@dataclass
class ProgressReporter:
    """Remembers what each client was told last."""

    interval_s: float
    _told: dict[str, _Told] = field(default_factory=dict)  # by request, of starts
    _queued: dict[str, _ToldQueue] = field(default_factory=dict)  # by model
    _looked_at_s: float = -inf

    def due(self, snapshot: Snapshot) -> list[Outgoing]:
        """What is to be told now."""
        now_s = snapshot.now_s
        if now_s - self._looked_at_s < self.interval_s / 8:
            return []
        self._looked_at_s = now_s
        return [*self._newly_queued(snapshot), *self._of_starts(snapshot)]

    def _newly_queued(self, snapshot: Snapshot) -> list[Outgoing]:
        outgoing: list[Outgoing] = []
        queued: dict[str, _ToldQueue] = {}
        for model_id, version in snapshot.requests.versions("queue").items():
            reason, told = snapshot.waits_for(model_id), self._queued.get(model_id)
            if told is None or told.version is not version or told.reason is not reason:
                waiting = snapshot.queued(model_id)
                known = told.request_ids if told is not None and told.reason is reason else ()
                outgoing += [
                    _message(_Waiting(request, _QUEUED, reason), position)
                    for position, request in enumerate(waiting)
                    if request.id not in known
                ]
                told = _ToldQueue(version, reason, frozenset(request.id for request in waiting))
            queued[model_id] = told
        self._queued = queued
        return outgoing

    def _of_starts(self, snapshot: Snapshot) -> list[Outgoing]:
        outgoing, told, now_s = [], {}, snapshot.now_s
        for waiting in _waiting_for_starts(snapshot):
            request_id, phase = waiting.request.id, waiting.start.phase
            last = self._told.get(request_id)
            is_told = last is not None and (last.phase, last.reason) == (phase, waiting.reason)
            if last is not None and is_told and now_s - last.at_s < self.interval_s:
                told[request_id] = last
                continue
            outgoing.append(_message(waiting))
            told[request_id] = _Told(waiting.request.endpoint_id, phase, waiting.reason, now_s)
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


def _waiting_for_starts(snapshot: Snapshot) -> Iterator[_Waiting]:
    """Requests assigned to an endpoint that still starts, and those whose endpoint failed: their
    gateways learn from it that they wait again."""
    for endpoint in snapshot.unsettled_endpoints:
        if endpoint.state is EndpointState.STARTING:
            start = progress_of(snapshot, endpoint)
            for request in snapshot.requests.by("endpoint", endpoint.id):
                yield _Waiting(request, start)
    for failure in snapshot.failures:
        for request in snapshot.requests.by("endpoint", failure.endpoint_id):
            if snapshot.is_orphaned(request):
                yield _Waiting(request, _QUEUED)


def _message(waiting: _Waiting, position: int | None = None) -> Outgoing:
    """`position`: among the queued ones of its model."""
    message = RequestProgressed(
        request_id=waiting.request.id,
        phase=waiting.start.phase,
        queue_position=position,
        bytes_done=waiting.start.bytes_done,
        bytes_total=waiting.start.bytes_total,
        reason=waiting.reason,
    )
    return Outgoing(REQUEST_PROGRESS, waiting.request.id, message)
