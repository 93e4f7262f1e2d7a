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
        while True:
            self._channel.progress.note()
            self._channel.compute.between_steps()
            self._follower.step(0 if self._follower.optimize_step() else IDLE_WAIT_S)
            if (frame := self._channel.receive(0)) is not None:
                raise FrameError(f"a {type(frame).__name__} for a stage behind the entry")
