"""The main loop of a worker process behind the entry stage: micro-batches in, micro-batches out."""

from collections.abc import Callable
from typing import NoReturn

from services.worker.engine_port import FollowerEngine
from services.worker.errors import FrameError
from services.worker.frames.consolidation import AbandonConsolidation, Consolidate
from services.worker.frames.frames import Ready
from services.worker.runtime.channel import Channel
from services.worker.runtime.consolidation.port import Growths
from services.worker.runtime.start_steps import StartSteps

IDLE_WAIT_S = 1.0
BACKGROUND_WAIT_S = 0.02  # while layers of the whole model arrive


class FollowerLoop:
    """Runs in the thread that owns the follower. Where that becomes a whole model, the loop that
    serves it goes on from here."""

    def __init__(
        self,
        follower: FollowerEngine,
        channel: Channel,
        steps: StartSteps,
        wait_linked: Callable[[], None],
        growths: Growths,
    ) -> None:
        self._follower, self._channel, self._steps = follower, channel, steps
        self._wait_linked, self._growths = wait_linked, growths

    def run(self) -> NoReturn:
        """Never returns; what it raises ends the process."""
        with self._steps.step("load"):
            for _ in self._follower.load_units():
                self._follower.step(0)  # what came early waits for the layers it lacks only
        self._wait_linked()
        self._channel.send(Ready())
        while not self._follower.has_left:
            self._channel.progress.note()
            self._channel.compute.between_steps()
            self._follower.step(0 if self._follower.optimize_step() else self._wait_s)
            self._take_frames(0)
        self._outlive_pipeline()

    @property
    def _wait_s(self) -> float:
        return BACKGROUND_WAIT_S if self._growths.is_under_way else IDLE_WAIT_S

    def _outlive_pipeline(self) -> NoReturn:
        """The entry serves alone. This process serves too once it has all layers, if it shall have
        them; else its agent will end it."""
        while (serving := self._growths.serving()) is None:
            self._channel.progress.note()
            self._channel.compute.between_steps()
            self._take_frames(0 if self._follower.optimize_step() else self._wait_s)
        serving.run()

    def _take_frames(self, timeout_s: float) -> None:
        while (frame := self._channel.receive(timeout_s)) is not None:
            timeout_s = 0.0
            match frame:
                case Consolidate():
                    self._growths.begin(frame)
                case AbandonConsolidation():
                    self._growths.abandon(frame)
                case _:
                    raise FrameError(f"a {type(frame).__name__} for a stage behind the entry")
