"""Times the steps of a worker's start, or of a consolidation, in the worker itself. Stdlib only."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.worker.frames.frames import StepTaken


class StartSteps:
    """Steps may overlap; each is told when it begins and when it has ended."""

    def __init__(self, send: Callable[[StepTaken], None], prefix: str = "") -> None:
        """`prefix` goes before the name of each."""
        self._send, self._prefix = send, prefix

    @contextmanager
    def step(self, name: str, detail: str = "") -> Iterator[None]:
        """A step that fails stays open: the agent closes it with the cause of the failure."""
        started_at_s = time.time()
        self._tell(name, started_at_s, None, detail)
        yield
        self.ended(name, started_at_s, detail)

    def begin(self, name: str, detail: str = "") -> float:
        """For a step that another thread ends: when it began, as `ended` wants it."""
        started_at_s = time.time()
        self._tell(name, started_at_s, None, detail)
        return started_at_s

    def ended(self, name: str, started_at_s: float, detail: str = "") -> None:
        self._tell(name, started_at_s, time.time(), detail)

    def told(self, name: str, started_at_s: float, ended_at_s: float, detail: str = "") -> None:
        """Of what ended some time ago."""
        self._tell(name, started_at_s, ended_at_s, detail)

    def _tell(self, name: str, started_at_s: float, ended_at_s: float | None, detail: str) -> None:
        self._send(StepTaken(self._prefix + name, started_at_s, ended_at_s, detail))
