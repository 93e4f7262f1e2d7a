"""Tells the agent how a consolidation goes: its steps for the timeline, and its phases."""

import time
from collections.abc import Callable
from math import isfinite
from typing import Protocol

from libs.common.states import ConsolidationPhase
from services.worker.engine_port import CopyPlan, KvTransfer, Pause, Switched
from services.worker.frames.consolidation import (
    MAX_PAUSES,
    Consolidate,
    ConsolidationChanged,
    RequestPause,
    SwitchMeasured,
)
from services.worker.frames.frames import ToAgent
from services.worker.runtime.start_steps import StartSteps

STEP_PREFIX = "consolidation."


class Ended(Protocol):
    def __call__(self, *, has_switched: bool) -> None:
        """It has switched, or was abandoned."""


class ConsolidationReport:
    """The engine's ConsolidationEvents of one attempt. Its steps follow each other."""

    def __init__(self, frame: Consolidate, send: Callable[[ToAgent], None], ended: Ended) -> None:
        """`ended` is called once."""
        self._frame, self._send, self._ended = frame, send, ended
        self._steps = StartSteps(send, STEP_PREFIX)
        self._since_s = self._steps.begin("load")
        self._say(ConsolidationPhase.LOADING)

    def loaded(self) -> None:
        """See ConsolidationEvents."""
        self._end_step("load", f"{len(self._frame.unit_digests)} units")

    def copying(self, plan: CopyPlan) -> None:
        """See ConsolidationEvents."""
        self._say(ConsolidationPhase.COPYING)
        self._plan = plan
        self._since_s = self._steps.begin("copy", _plan_words(plan))

    def freezing(self) -> None:
        """See ConsolidationEvents."""
        self._end_step("copy", _plan_words(self._plan))

    def unfrozen(self, why: str) -> None:
        """See ConsolidationEvents."""
        self._end_step("drain", f"the pipeline goes on: {why}")

    def switched(self, switched: Switched) -> None:
        """See ConsolidationEvents."""
        self._say(ConsolidationPhase.SWITCHED)
        drained_at_s = self._since_s + switched.drain_s
        moved_at_s = drained_at_s + switched.move_s
        self._steps.told("drain", self._since_s, drained_at_s)
        self._steps.told("move", drained_at_s, moved_at_s, _result_words(switched))
        self._since_s = moved_at_s
        self._switched = switched
        self._ended(has_switched=True)

    def stepped(self) -> None:
        """See ConsolidationEvents."""
        self._end_step("first_step")

    def paused(self, pauses: tuple[Pause, ...]) -> None:
        """See ConsolidationEvents."""
        self._send(_measured(self._frame, self._plan, self._switched, pauses))

    def abandoned(self, why: str) -> None:
        """See ConsolidationEvents."""
        self._say(ConsolidationPhase.ABANDONED, why)
        self._ended(has_switched=False)

    def _end_step(self, name: str, detail: str = "") -> None:
        """And the next one begins."""
        self._steps.ended(name, self._since_s, detail)
        self._since_s = time.time()

    def _say(self, phase: ConsolidationPhase, why: str = "") -> None:
        self._send(_changed(self._frame, phase, why))


class GrowthReport:
    """The engine's GrowthEvents of one attempt, and the end of it."""

    def __init__(self, frame: Consolidate, send: Callable[[ToAgent], None], ended: Ended) -> None:
        """`ended` is called once."""
        self._frame, self._send, self._ended = frame, send, ended
        self._steps = StartSteps(send, STEP_PREFIX)
        self._since_s = self._steps.begin("load")
        self._send(_changed(frame, ConsolidationPhase.LOADING))

    def loaded(self) -> None:
        """See GrowthEvents."""
        self._steps.ended("load", self._since_s, f"{len(self._frame.unit_digests)} units")

    def abandoned(self, why: str) -> None:
        """See GrowthEvents."""
        self._send(_changed(self._frame, ConsolidationPhase.ABANDONED, why))
        self._ended(has_switched=False)

    def serving(self) -> None:
        """It is an endpoint of its own from now on."""
        self._send(_changed(self._frame, ConsolidationPhase.SWITCHED))
        self._ended(has_switched=True)


def _changed(frame: Consolidate, phase: ConsolidationPhase, why: str = "") -> ConsolidationChanged:
    return ConsolidationChanged(frame.generation, frame.attempt, phase, why)


def _measured(
    frame: Consolidate, plan: CopyPlan, switched: Switched, pauses: tuple[Pause, ...]
) -> SwitchMeasured:
    return SwitchMeasured(
        frame.generation,
        frame.attempt,
        is_recomputed=switched.transfer is KvTransfer.RECOMPUTE,
        num_sequences=switched.num_sequences,
        precopied_bytes=switched.precopied_bytes,
        moved_bytes=switched.moved_bytes,
        drain_s=max(0.0, switched.drain_s),
        move_s=max(0.0, switched.move_s),
        pauses=told_pauses(pauses),
        predicted_move_s=plan.move_s,
        predicted_recompute_s=plan.recompute_s if isfinite(plan.recompute_s) else None,
    )


def told_pauses(pauses: tuple[Pause, ...]) -> tuple[RequestPause, ...]:
    """The longest first. Of too many every so manyth, the longest among them, so that what one
    works out of these is what one would of all."""
    found = sorted(pauses, key=lambda pause: pause.pause_s, reverse=True)
    count = min(len(found), MAX_PAUSES)
    told = (found[i * len(found) // count] for i in range(count))
    return tuple(RequestPause(p.request_id, p.pause_s, p.usual_gap_s) for p in told)


def _plan_words(plan: CopyPlan) -> str:
    if not plan.num_sequences:
        return "nothing runs"
    return (
        f"{plan.transfer}: {plan.num_sequences} sequences, {plan.num_tokens} tokens, "
        f"{plan.num_bytes / 1e6:.1f} MB"
    )


def _result_words(switched: Switched) -> str:
    if switched.transfer is KvTransfer.RECOMPUTE:
        return f"{switched.num_recomputed} sequences are computed again"
    return (
        f"{switched.num_sequences} sequences, {switched.precopied_bytes} bytes before, "
        f"{switched.moved_bytes} at the switch"
    )
