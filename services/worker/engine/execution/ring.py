"""The ring port, by which micro-batches reach the next stage, and a ring of one stage.

Beside micro-batches go notices, in order with them.
"""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import torch

from services.worker.engine.execution.microbatch import MicroBatch
from services.worker.engine.execution.notices import Notice


@dataclass(frozen=True)
class Arrival:
    batch: MicroBatch
    hidden: torch.Tensor  # [rows, hidden] on the compute device; until the next `receive` only


class Ring(Protocol):
    """One stage's two ends. Messages keep their order; `wake` alone may be called by any thread."""

    def send(self, batch: MicroBatch, hidden: torch.Tensor) -> None:
        """To the next stage: `[rows, hidden]`, which is free again on return.

        Raises WorkerError when the next stage is lost.
        """

    def tell(self, notice: Notice) -> None:
        """To the next stage. Raises WorkerError when it is lost.

        After `RingClosed` the loss of a neighbour is none, and nothing more is sent.
        """

    def receive(self, timeout_s: float) -> Arrival | Notice | None:
        """From the previous stage; None when nothing comes in time, or after `wake`.

        Raises WorkerError when a neighbour is lost or what comes is malformed.
        """

    def wake(self) -> None:
        """End a `receive` early, now or the next one."""


class Loopback:
    """The ring of a whole model: what leaves it is back at once, without a copy."""

    def __init__(self) -> None:
        self._passed: deque[Arrival | Notice] = deque()

    def send(self, batch: MicroBatch, hidden: torch.Tensor) -> None:
        self._passed.append(Arrival(batch, hidden))

    def tell(self, notice: Notice) -> None:
        self._passed.append(notice)

    def receive(self, timeout_s: float) -> Arrival | Notice | None:
        return self._passed.popleft() if self._passed else None

    def wake(self) -> None:
        """Nobody waits here."""
