"""Times the steps of a worker's start, in the worker itself. Stdlib only."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.worker.frames.frames import StepTaken


class StartSteps:
    """Steps may overlap; each is told when it begins and when it has ended."""

    def __init__(self, send: Callable[[StepTaken], None]) -> None:
        self._send = send

    @contextmanager
    def step(self, name: str, detail: str = "") -> Iterator[None]:
        """A step that fails stays open: the agent closes it with the cause of the failure."""
        started_at_s = time.time()
        self._send(StepTaken(name, started_at_s, None, detail))
        yield
        self._send(StepTaken(name, started_at_s, time.time(), detail))

    def begin(self, name: str) -> float:
        """For a step that another thread ends: when it began, as `ended` wants it."""
        started_at_s = time.time()
        self._send(StepTaken(name, started_at_s, None))
        return started_at_s

    def ended(self, name: str, started_at_s: float, detail: str = "") -> None:
        self._send(StepTaken(name, started_at_s, time.time(), detail))

    def told(self, name: str, started_at_s: float, ended_at_s: float) -> None:
        """Of what ended some time ago."""
        self._send(StepTaken(name, started_at_s, ended_at_s))
