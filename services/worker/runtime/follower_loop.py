"""The main loop of a worker process behind the entry stage: micro-batches in, micro-batches out."""

from collections.abc import Callable
from typing import NoReturn

from services.worker.engine_port import FollowerEngine
from services.worker.errors import FrameError
from services.worker.frames.frames import Ready
from services.worker.runtime.channel import Channel
from services.worker.runtime.start_steps import StartSteps

IDLE_WAIT_S = 1.0


class FollowerLoop:
    """Runs in the thread that owns the follower."""

    def __init__(
        self,
        follower: FollowerEngine,
        channel: Channel,
        steps: StartSteps,
        wait_linked: Callable[[], None],
    ) -> None:
        self._follower, self._channel, self._steps = follower, channel, steps
        self._wait_linked = wait_linked

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
            self._follower.step(0 if self._follower.optimize_step() else IDLE_WAIT_S)
            self._expect_nothing(0)
        while True:  # the entry serves alone; the agent will end this process
            self._channel.progress.note()
            self._expect_nothing(IDLE_WAIT_S)

    def _expect_nothing(self, timeout_s: float) -> None:
        if (frame := self._channel.receive(timeout_s)) is not None:
            raise FrameError(f"a {type(frame).__name__} for a stage behind the entry")
