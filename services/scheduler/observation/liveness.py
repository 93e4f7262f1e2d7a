"""Listens: who was heard when, in time during which anything at all could be heard."""

from dataclasses import dataclass, field

from services.scheduler.policy.liveness import Liveness


@dataclass
class LivenessLog:
    """Feed it every message's arrival (monotonic seconds)."""

    started_s: float
    max_gap_s: float  # everybody speaks each second; of a longer gap only this much counts
    _last_s: float = field(init=False)
    _elapsed_s: float = field(init=False, default=0.0)
    _heard: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._last_s = self.started_s

    def hear(self, speaker: str, now_s: float) -> None:
        self._elapsed_s += min(max(now_s - self._last_s, 0.0), self.max_gap_s)
        self._last_s = max(now_s, self._last_s)
        self._heard[speaker] = self._elapsed_s

    @property
    def heard_for_s(self) -> float:
        """Since the start."""
        return self._elapsed_s

    def silence_s(self, speaker: str) -> float:
        """Since the speaker's last message; since the start for one who never spoke."""
        return self._elapsed_s - self._heard.get(speaker, 0.0)

    def forget(self, speaker: str) -> None:
        """One that will not speak again."""
        self._heard.pop(speaker, None)

    def snapshot(self) -> Liveness:
        return Liveness(self._elapsed_s, dict(self._heard))
