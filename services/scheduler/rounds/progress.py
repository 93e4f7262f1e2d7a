"""Keeps waiting clients informed: at every change of phase, and every other second."""

from dataclasses import dataclass, field
from math import inf

from libs.common.bus.messages import RequestProgressed
from libs.common.bus.subjects import REQUEST_PROGRESS
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.start_progress import Phase, StartProgress
from services.scheduler.rounds.fleet import progress_of
from services.scheduler.rounds.round import Round
from services.scheduler.store import queue
from services.scheduler.store.queue import Waiting


@dataclass(frozen=True)
class _Told:
    endpoint_id: str | None
    phase: Phase
    at_s: float


@dataclass
class ProgressTeller:
    _told: dict[str, _Told] = field(default_factory=dict)  # by request
    _looked_at_s: float = -inf

    async def tell(self, round_: Round, fleet: tuple[Endpoint, ...]) -> None:
        if round_.now_s - self._looked_at_s < round_.timing.progress_interval_s / 8:
            return
        self._looked_at_s = round_.now_s
        starts = {endpoint.id: progress_of(round_, endpoint) for endpoint in fleet}
        told = {}
        for request in await queue.load_waiting(round_.session):
            start = starts.get(request.endpoint_id or "", StartProgress("queued"))
            told[request.id] = self._tell(round_, request, start)
        serving = {endpoint.id for endpoint in fleet if endpoint.state.is_serving}
        for request_id in self._told.keys() - told.keys():
            if self._told[request_id].endpoint_id in serving:
                ready = RequestProgressed(request_id=request_id, phase="ready")
                round_.send(REQUEST_PROGRESS, request_id, ready)
        self._told = told

    def _tell(self, round_: Round, request: Waiting, start: StartProgress) -> _Told:
        last = self._told.get(request.id)
        if last is not None and last.phase == start.phase:
            if round_.now_s - last.at_s < round_.timing.progress_interval_s:
                return last
        message = RequestProgressed(
            request_id=request.id,
            phase=start.phase,
            queue_position=request.position if request.endpoint_id is None else None,
            bytes_done=start.bytes_done,
            bytes_total=start.bytes_total,
        )
        round_.send(REQUEST_PROGRESS, request.id, message)
        return _Told(request.endpoint_id, start.phase, round_.now_s)
