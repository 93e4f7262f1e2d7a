"""Trace contexts by id: a cold start, or an import, becomes part of the trace that caused it."""

from dataclasses import dataclass, field

MAX_KEPT = 10_000  # the oldest go; what they cause later begins a trace of its own


@dataclass
class TraceContexts:
    _by_id: dict[str, str] = field(default_factory=dict)

    def remember(self, id_: str, traceparent: str | None) -> None:
        if traceparent is None:
            return
        self._by_id[id_] = traceparent
        if len(self._by_id) > MAX_KEPT:
            del self._by_id[next(iter(self._by_id))]

    def of(self, id_: str) -> str | None:
        return self._by_id.get(id_)
