"""Tells a worker process what it shall become, once each attempt, and keeps what it says of it."""

from collections.abc import Callable

from libs.common.bus.messages import ConsolidationObserved, TargetGeneration
from libs.common.states import ConsolidationPhase
from services.worker.errors import FrameError
from services.worker.frames.consolidation import (
    AbandonConsolidation,
    Consolidate,
    ConsolidationChanged,
)
from services.worker.frames.frames import ToWorker

_MAX_WHY = 200  # characters, as ConsolidationObserved has it

Attempt = tuple[int, int]  # generation and number


class TargetFollower:
    def __init__(self, generation: int, send: Callable[[ToWorker], None]) -> None:
        self.generation = generation  # of its endpoint, that the process has reached
        self.observed: ConsolidationObserved | None = None  # of the target that is followed
        self._send = send
        self._followed: Attempt | None = None
        self._told: set[Attempt] = set()  # that the process was ever told of

    @property
    def was_told(self) -> bool:
        """Whether the process has ever had a target."""
        return bool(self._told)

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
        attempt = (frame.generation, frame.attempt)
        if attempt not in self._told:
            raise FrameError(f"attempt {frame.attempt} at generation {frame.generation} is unknown")
        if frame.phase is ConsolidationPhase.SWITCHED:
            self.generation = max(self.generation, frame.generation)
        if attempt == self._followed:
            self.observed = ConsolidationObserved(
                generation=frame.generation,
                attempt=frame.attempt,
                phase=frame.phase,
                why=frame.why[:_MAX_WHY],
            )

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
