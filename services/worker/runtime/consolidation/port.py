"""What a serving loop does with what its agent says of consolidations."""

from typing import Protocol

from services.worker.errors import FrameError
from services.worker.frames.consolidation import AbandonConsolidation, Consolidate


class Consolidations(Protocol):
    """For the thread that owns the engine."""

    @property
    def is_under_way(self) -> bool:
        """Whether the engine wants turns although no request runs."""

    def begin(self, frame: Consolidate) -> None:
        """Become the whole model, in the background. Said again, it changes nothing."""

    def abandon(self, frame: AbandonConsolidation) -> None:
        """Stay a stage; nothing once it has switched, or if that attempt has ended."""


class NoConsolidations:
    """Of a worker that is the whole model."""

    is_under_way = False

    def begin(self, frame: Consolidate) -> None:
        """Raises FrameError."""
        raise FrameError("a whole model cannot be consolidated")

    def abandon(self, frame: AbandonConsolidation) -> None:
        """Raises FrameError."""
        raise FrameError("a whole model is not being consolidated")
