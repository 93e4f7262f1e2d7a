"""Tells a worker process what it shall become, once each attempt, and keeps what it says of it."""

from collections.abc import Callable

from libs.common.bus.messages import ConsolidationObserved, SwitchObserved, TargetGeneration
from libs.common.clock import Clock
from libs.common.states import ConsolidationPhase
from libs.common.told_steps import TOLD_S
from services.worker.agent.translate import switch_message
from services.worker.errors import FrameError
from services.worker.frames.consolidation import (
    AbandonConsolidation,
    Consolidate,
    ConsolidationChanged,
    SwitchMeasured,
)
from services.worker.frames.frames import ToWorker

_MAX_WHY = 200  # characters, as ConsolidationObserved has it

Attempt = tuple[int, int]  # generation and number


class TargetFollower:
    def __init__(self, generation: int, send: Callable[[ToWorker], None], clock: Clock) -> None:
        self.generation = generation  # of its endpoint, that the process has reached
        self.observed: ConsolidationObserved | None = None  # of the target that is followed
        self._send, self._clock = send, clock
        self._switch: SwitchObserved | None = None
        self._switch_told_until_s = 0.0
        self._followed: Attempt | None = None
        self._told: set[Attempt] = set()  # that the process was ever told of

    @property
    def was_told(self) -> bool:
        """Whether the process has ever had a target."""
        return bool(self._told)

    @property
    def switch(self) -> SwitchObserved | None:
        """How the switch went; for some time after it was measured, as the steps of a start."""
        is_told = self._clock.monotonic_s() < self._switch_told_until_s
        return self._switch if is_told else None

    def follow(self, target: TargetGeneration | None) -> None:
        """For a process that serves. A target that it was told of already changes nothing."""
        attempt = None if target is None else (target.generation, target.attempt)
        if attempt == self._followed:
            return
        self._abandon()
        if target is not None and target.generation > self.generation:
            self._begin(target)

    def take(self, frame: ConsolidationChanged) -> None:
        """Raises FrameError for an attempt that the process was never told of.

        A switch counts even when the target was taken back before it was heard of.
        """
        attempt = self._known(frame)
        if frame.phase is ConsolidationPhase.SWITCHED:
            self.generation = max(self.generation, frame.generation)
        if attempt == self._followed:
            self.observed = ConsolidationObserved(
                generation=frame.generation,
                attempt=frame.attempt,
                phase=frame.phase,
                why=frame.why[:_MAX_WHY],
            )

    def take_switch(self, frame: SwitchMeasured) -> None:
        """Raises FrameError as `take` does, or for what nobody could have measured."""
        self._known(frame)
        self._switch = switch_message(frame)
        self._switch_told_until_s = self._clock.monotonic_s() + TOLD_S

    def _known(self, frame: ConsolidationChanged | SwitchMeasured) -> Attempt:
        attempt = (frame.generation, frame.attempt)
        if attempt not in self._told:
            raise FrameError(f"attempt {frame.attempt} at generation {frame.generation} is unknown")
        return attempt

    def _begin(self, target: TargetGeneration) -> None:
        self._followed = (target.generation, target.attempt)
        self._told.add(self._followed)
        self._send(
            Consolidate(
                generation=target.generation,
                attempt=target.attempt,
                unit_digests=target.unit_digests,
                kv_bytes=target.kv_bytes,
                timeout_ms=target.timeout_ms,
            )
        )

    def _abandon(self) -> None:
        """Nothing for one that has come to its end."""
        has_ended = self.observed is not None and self.observed.phase.is_final
        if self._followed is not None and not has_ended:
            self._send(AbandonConsolidation(*self._followed))
        self._followed = self.observed = None
