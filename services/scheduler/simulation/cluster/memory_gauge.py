"""How much memory is in use, and for how long: bytes x seconds, by whom it is for."""

from collections import defaultdict
from dataclasses import dataclass, field

from services.scheduler.simulation.event_queue import EventQueue


@dataclass(eq=False)
class MemoryGauge:
    """Of the whole cluster; by model."""

    events: EventQueue
    byte_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _used_bytes: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    _since_s: dict[str, float] = field(default_factory=dict)

    def change(self, model_id: str, more_bytes: int) -> None:
        """From now on; less than 0: so much is free again."""
        self._count(model_id)
        self._used_bytes[model_id] += more_bytes
        if not self._used_bytes[model_id]:
            del self._used_bytes[model_id], self._since_s[model_id]

    def close(self) -> None:
        """The run is over: what is in use counts until now."""
        for model_id in self._used_bytes:
            self._count(model_id)

    def _count(self, model_id: str) -> None:
        now_s = self.events.now_s
        used_bytes = self._used_bytes[model_id]
        self.byte_s[model_id] += used_bytes * (now_s - self._since_s.get(model_id, now_s))
        self._since_s[model_id] = now_s
