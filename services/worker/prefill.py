"""The step `prefill` of a stage's start: from its first tokens to the first that was sampled.

It may begin while weights arrive: layers that are there compute already.
"""

import torch

from services.worker.engine.microbatch import MicroBatch
from services.worker.engine.ring import Arrival, Ring
from services.worker.startsteps import StartSteps


class PrefillStep:
    """`begin` and `end` may be called again and again; the first of each counts."""

    def __init__(self, steps: StartSteps) -> None:
        self._steps = steps
        self._started_at_s: float | None = None
        self._has_ended = False

    def begin(self) -> None:
        if self._started_at_s is None:
            self._started_at_s = self._steps.begin("prefill")

    def end(self) -> None:
        if self._started_at_s is not None and not self._has_ended:
            self._has_ended = True
            self._steps.ended("prefill", self._started_at_s)


class PrefillRing:
    """The ring of a stage behind the entry, which sees its prefill pass by."""

    def __init__(self, ring: Ring, prefill: PrefillStep) -> None:
        self._ring, self._prefill = ring, prefill

    def send(self, batch: MicroBatch, hidden: torch.Tensor) -> None:
        # Before they leave, so that no stage seems to compute after the token was there.
        # The last stage answers with the sampled rows alone.
        if batch.num_sampled or (not batch.pieces and len(hidden)):
            self._prefill.end()
        self._ring.send(batch, hidden)

    def receive(self, timeout_s: float) -> Arrival | None:
        arrival = self._ring.receive(timeout_s)
        if arrival is not None:
            self._prefill.begin()
        return arrival

    def wake(self) -> None:
        self._ring.wake()
