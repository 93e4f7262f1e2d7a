"""Imports that a fetcher works on, and those whose fetcher fell silent. Pure but for its memory."""

from dataclasses import dataclass, field

from libs.common.bus.messages import ImportProgressed
from libs.common.states import ImportState
from services.scheduler.observation.liveness import LivenessLog


@dataclass(frozen=True)
class Abandoned:
    model_id: str
    import_id: str


@dataclass
class ImportWatch:
    """A fetcher reports twice a second on the import that it works on; one that waits in the queue
    is silent from the start, and none of this one's business."""

    liveness: LivenessLog
    max_silence_s: float
    _running: dict[str, str] = field(default_factory=dict)  # import by model

    def hear(self, report: ImportProgressed, now_s: float) -> None:
        """`now_s`: monotonic."""
        if report.state is ImportState.RUNNING:
            self._running[report.model_id] = report.import_id
            self.liveness.hear(_speaker(report.import_id), now_s)
        elif self._running.get(report.model_id) == report.import_id:
            self._forget(report.model_id)

    def take_abandoned(self) -> list[Abandoned]:
        """Each once: whoever takes it up will be heard again."""
        found = [
            Abandoned(model_id, import_id)
            for model_id, import_id in self._running.items()
            if self.liveness.silence_s(_speaker(import_id)) > self.max_silence_s
        ]
        for abandoned in found:
            self._forget(abandoned.model_id)
        return found

    def _forget(self, model_id: str) -> None:
        self.liveness.forget(_speaker(self._running.pop(model_id)))


def _speaker(import_id: str) -> str:
    return f"import {import_id}"
