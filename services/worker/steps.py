"""The steps of one worker's start, for the heartbeat and, each at its end, as a span."""

from libs.common import telemetry
from libs.common.clock import Clock
from libs.common.messages import Step

MAX_STEPS = 32  # a worker has about ten


class StepBook:
    def __init__(self, worker_id: str, traceparent: str | None, clock: Clock) -> None:
        self._worker_id, self._traceparent, self._clock = worker_id, traceparent, clock
        self._steps: dict[str, Step] = {}

    def all(self) -> tuple[Step, ...]:
        return tuple(self._steps.values())

    @property
    def running(self) -> tuple[str, ...]:
        return tuple(step.name for step in self._steps.values() if step.ended_at is None)

    def begin(self, name: str) -> None:
        self._put(Step(name=name, started_at=self._clock.now()))

    def take(self, step: Step) -> None:
        """What the worker says; of a step that the agent began, the agent's start counts."""
        known = self._steps.get(step.name)
        if known is not None:
            step = step.model_copy(update={"started_at": known.started_at})
        self._put(step)

    def note_ready(self) -> None:
        now = self._clock.now()
        self._put(Step(name="ready", started_at=now, ended_at=now))

    def note_first_token(self) -> bool:
        """True the first time."""
        if "first_token" in self._steps:
            return False
        ready = self._steps.get("ready")
        now = self._clock.now()
        started_at = now if ready is None else ready.started_at
        self._put(Step(name="first_token", started_at=started_at, ended_at=now))
        return True

    def close(self, cause: str | None) -> None:
        """Steps that were running when the process ended have ended with it."""
        now = self._clock.now()
        for step in self.all():
            if step.ended_at is None:
                self._put(step.model_copy(update={"ended_at": now}), cause)

    def _put(self, step: Step, error: str | None = None) -> None:
        if step.name not in self._steps and len(self._steps) >= MAX_STEPS:
            return
        self._steps[step.name] = step
        if step.ended_at is not None:
            self._record(step, error)

    def _record(self, step: Step, error: str | None) -> None:
        assert step.ended_at is not None
        telemetry.record_span(
            f"worker.{step.name}",
            self._traceparent,
            step.started_at,
            step.ended_at,
            {"worker_id": self._worker_id, "detail": step.detail},
            error,
        )
