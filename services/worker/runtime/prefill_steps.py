"""The steps of a stage's first answer, by what its engine tells at the boundaries of its steps.

`prefill`: from a stage's first tokens until what the first sampled token depends on leaves it; of a
whole model until that token. It may begin while weights arrive: layers that are there compute
already. `prefill.received`: a stage behind the entry has all that it needs for that. `head`: on the
entry of several stages, from the last one's hidden states to the first token. What lies between a
stage's prefill and the next one's receipt is a hop: `services/scheduler/observation/hops.py`.
"""

import time

from services.worker.runtime.start_steps import StartSteps


class FirstStep:
    """Its methods may be called again and again; the first time of each counts."""

    def __init__(self, name: str, steps: StartSteps) -> None:
        self._name, self._steps = name, steps
        self._started_at_s: float | None = None
        self._received_at_s: float | None = None
        self._has_ended = self._is_receipt_told = False

    def begin(self) -> None:
        if self._started_at_s is None:
            self._started_at_s = self._steps.begin(self._name)

    def begin_untold(self) -> None:
        """Somebody waits for what comes next: only the end is told."""
        if self._started_at_s is None:
            self._started_at_s = time.time()

    def note_received(self) -> None:
        if self._received_at_s is None:
            self._received_at_s = time.time()

    def end(self) -> None:
        if self._started_at_s is not None and not self._has_ended:
            self._has_ended = True
            self._steps.ended(self._name, self._started_at_s)

    def tell_received(self) -> None:
        """Once nobody waits for this stage any more."""
        if not self._has_ended or self._is_receipt_told:
            return
        assert self._started_at_s is not None
        assert self._received_at_s is not None, "what leaves a stage was received"
        self._is_receipt_told = True
        self._steps.told(f"{self._name}.received", self._started_at_s, self._received_at_s)


class FirstAnswer:
    """Of an entry stage or a whole model, which has no head step."""

    def __init__(self, steps: StartSteps) -> None:
        self.prefill, self.head = FirstStep("prefill", steps), FirstStep("head", steps)


class EntryEvents:
    """The entry of several stages: its part of the prefill leaves it, its head begins later."""

    def __init__(self, answer: FirstAnswer) -> None:
        self._answer = answer

    def received(self, *, is_sampled: bool) -> None:
        if is_sampled:
            self._answer.head.begin_untold()

    def leaving(self, *, is_sampled: bool) -> None:
        if is_sampled:
            self._answer.prefill.end()

    def left(self) -> None:
        """Nobody told it anything."""


class FollowerEvents:
    """A stage behind the entry: its prefill passes by."""

    def __init__(self, prefill: FirstStep) -> None:
        self._prefill = prefill

    def received(self, *, is_sampled: bool) -> None:
        self._prefill.begin()
        if is_sampled:
            self._prefill.note_received()

    def leaving(self, *, is_sampled: bool) -> None:
        # Before it leaves, so that no stage seems to compute after the token was there.
        if is_sampled:
            self._prefill.end()

    def left(self) -> None:
        self._prefill.tell_received()
