"""What the main loops do with what their agent says of consolidations."""

from typing import Protocol

from services.worker.errors import FrameError
from services.worker.frames.consolidation import AbandonConsolidation, Consolidate
from services.worker.runtime.main_loop import MainLoop


class Consolidations(Protocol):
    """For the thread that owns the engine."""

    @property
    def is_under_way(self) -> bool:
        """Whether the engine wants turns although no request runs."""

    def begin(self, frame: Consolidate) -> None:
        """Become the whole model, in the background. Said again, it changes nothing."""

    def abandon(self, frame: AbandonConsolidation) -> None:
        """Stay a stage; nothing once it has switched, or if that attempt has ended."""


class Growths(Consolidations, Protocol):
    """Of a stage behind the entry."""

    def serving(self) -> MainLoop | None:
        """Of the whole model, once all is loaded and the ring closed; None until then.

        From then on the stage must not be used any more.
        """


class NoConsolidations:
    """Of a worker that is the whole model."""

    is_under_way = False

    def begin(self, frame: Consolidate) -> None:
        """Raises FrameError."""
        raise FrameError("a whole model cannot be consolidated")

    def abandon(self, frame: AbandonConsolidation) -> None:
        """Raises FrameError."""
        raise FrameError("a whole model is not being consolidated")
