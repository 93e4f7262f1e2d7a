"""The steps of one worker's start, and of what it becomes later, for the heartbeat and, each at its
end, as a span."""

import math

from libs.common.bus.messages import Step
from libs.common.clock import Clock
from libs.common.observability import telemetry
from libs.common.told_steps import TOLD_S
from services.worker.frames.frames import Origin

MAX_STEPS = 32  # a worker has about ten


class StartStepLog:
    def __init__(self, worker_id: str, traceparent: str | None, clock: Clock) -> None:
        self._worker_id, self._traceparent, self._clock = worker_id, traceparent, clock
        self._steps: dict[str, Step] = {}
        self._told_until_s: dict[str, float] = {}  # of steps that ended; monotonic
        self._is_ready = False

    def told(self) -> tuple[Step, ...]:
        """For the heartbeat. A ready worker's steps leave it some time after their end: written by
        then, they would only be read again with every heartbeat for as long as it lives.
        """
        now_s = self._clock.monotonic_s()
        return tuple(
            step
            for name, step in self._steps.items()
            if not self._is_ready or now_s < self._told_until_s.get(name, math.inf)
        )

    @property
    def running(self) -> tuple[str, ...]:
        return tuple(step.name for step in self._steps.values() if step.ended_at is None)

    @property
    def launch_s(self) -> float | None:
        """From the launch until the process had imported everything; None of a standby, or before
        that."""
        spawn, import_ = self._steps.get("spawn"), self._steps.get("import")
        if spawn is None or import_ is None or import_.ended_at is None:
            return None
        took_s = (import_.ended_at - spawn.started_at).total_seconds()
        return took_s if spawn.detail == Origin.LAUNCHED else None

    def begin(self, name: str) -> None:
        self._put(Step(name=name, started_at=self._clock.now()))

    def take(self, step: Step) -> None:
        """What the worker says; of a step that the agent began, the agent's start counts.

        A step that had ended and begins again replaces the one before.
        """
        known = self._steps.get(step.name)
        if known is not None and known.ended_at is None:
            step = step.model_copy(update={"started_at": known.started_at})
        self._put(step)

    def note_ready(self) -> None:
        now = self._clock.now()
        self._put(Step(name="ready", started_at=now, ended_at=now))
        self._is_ready = True
        for name in self._told_until_s:
            self._told_until_s[name] = self._clock.monotonic_s() + TOLD_S

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
        for step in tuple(self._steps.values()):
            if step.ended_at is None:
                self._put(step.model_copy(update={"ended_at": now}), cause)

    def _put(self, step: Step, error: str | None = None) -> None:
        if step.name not in self._steps and len(self._steps) >= MAX_STEPS:
            return
        self._steps[step.name] = step
        if step.ended_at is not None:
            self._told_until_s[step.name] = self._clock.monotonic_s() + TOLD_S
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
