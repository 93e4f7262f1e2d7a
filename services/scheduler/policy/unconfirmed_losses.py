"""Endpoints that a gateway reported lost, until a later heartbeat shows them alive. In memory."""

from dataclasses import dataclass, field

CERTAIN_AFTER_S = 0.5  # a heartbeat that came this much later was sent after the loss


@dataclass
class Doubts:
    """Without this, a request would be given the dead endpoint again until its death is known."""

    _reported_at_s: dict[str, float] = field(default_factory=dict)

    def report(self, endpoint_id: str, now_s: float) -> None:
        self._reported_at_s.setdefault(endpoint_id, now_s)

    def is_doubted(self, endpoint_id: str) -> bool:
        return endpoint_id in self._reported_at_s

    def seen_alive(self, endpoint_id: str, heard_at_s: float) -> None:
        reported_at_s = self._reported_at_s.get(endpoint_id)
        if reported_at_s is not None and heard_at_s >= reported_at_s + CERTAIN_AFTER_S:
            del self._reported_at_s[endpoint_id]

    def keep_only(self, endpoint_ids: set[str]) -> None:
        for endpoint_id in self._reported_at_s.keys() - endpoint_ids:
            del self._reported_at_s[endpoint_id]
