"""One span for each request an endpoint executes, from its acceptance to its end."""

from dataclasses import dataclass
from datetime import datetime

from libs.common.clock import Clock
from libs.common.observability import telemetry
from services.worker.agent.requests.token_log import RequestLog


@dataclass(frozen=True)
class _Begun:
    traceparent: str | None
    started_at: datetime


class RequestSpans:
    def __init__(self, endpoint_id: str, clock: Clock) -> None:
        self._endpoint_id, self._clock = endpoint_id, clock
        self._begun: dict[str, _Begun] = {}

    def begin(self, request_id: str) -> None:
        """Call it where the request's trace is the current one."""
        self._begun[request_id] = _Begun(telemetry.current_traceparent(), self._clock.now())

    def end(self, request: RequestLog, error: str | None) -> None:
        begun = self._begun.pop(request.request_id, None)
        if begun is None:
            return
        telemetry.record_span(
            "worker.generate",
            begun.traceparent,
            begun.started_at,
            self._clock.now(),
            {
                "request_id": request.request_id,
                "attempt": request.attempt,
                "endpoint_id": self._endpoint_id,
                "num_tokens": len(request.ids),
                "finish": request.finish.value if request.finish else "lost",
            },
            error,
        )
