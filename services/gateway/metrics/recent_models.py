"""Which models were asked for lately: the others' series are forgotten."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from libs.common.clock import Clock

MAX_MODELS = 1_000  # with about seventy lines each whenever somebody asks for the metrics
IDLE_S = 3600.0


@dataclass
class RecentModels:
    """Each use costs the same, however many models there are."""

    clock: Clock
    forget: Callable[[str], None]
    _used_at_s: OrderedDict[str, float] = field(default_factory=OrderedDict)  # the oldest first

    def use(self, model_id: str) -> None:
        self._used_at_s[model_id] = self.clock.monotonic_s()
        self._used_at_s.move_to_end(model_id)
        if len(self._used_at_s) > MAX_MODELS:
            self._forget_oldest()
        self.forget_idle()

    def forget_idle(self) -> None:
        """Those that nobody has asked for `IDLE_S`."""
        idle_since_s = self.clock.monotonic_s() - IDLE_S
        while self._used_at_s and next(iter(self._used_at_s.values())) < idle_since_s:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        model_id, _ = self._used_at_s.popitem(last=False)
        self.forget(model_id)
