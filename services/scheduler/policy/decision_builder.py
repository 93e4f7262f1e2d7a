"""Collects a round's decisions, each one seeing what was decided before. Pure."""

import traceback
from collections.abc import Callable, Iterable
from typing import TypeVar

from services.scheduler.policy import decisions as d
from services.scheduler.policy.effects import after
from services.scheduler.policy.snapshot import Snapshot

Answer = TypeVar("Answer")


class DecisionBuilder:
    """A round's decisions so far, and the snapshot that they lead to."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot  # as it will be once what is decided so far is carried out
        self.decisions: list[d.Decision] = []
        self._skipped: set[str] = set()

    def add(self, decisions: Iterable[d.Decision]) -> None:
        for decision in decisions:
            self.snapshot = after(self.snapshot, (decision,))
            self.decisions.append(decision)

    def apply_rule(
        self, model_id: str, rule: Callable[..., Iterable[d.Decision]], *arguments: object
    ) -> None:
        """Decide about one model by `rule(snapshot, *arguments)`, or not at all in this round: a
        bug or bad data that breaks one model's decisions must not cost the others theirs."""
        if model_id in self._skipped:
            return
        before = self.snapshot
        try:
            found = tuple(rule(before, *arguments))
            if found:
                self.snapshot = after(before, found)
        except Exception:  # whatever it is: it is this model's, and is told with its traceback
            self._skip(model_id, before)
            return
        self.decisions += found

    def ask(
        self, model_id: str, question: Callable[..., Answer], *arguments: object
    ) -> Answer | None:
        """The answer of `question(snapshot, *arguments)` about one model; None for one that is
        skipped in this round, now or before."""
        if model_id in self._skipped:
            return None
        try:
            return question(self.snapshot, *arguments)
        except Exception:  # as in `apply_rule`
            self._skip(model_id, self.snapshot)
            return None

    def _skip(self, model_id: str, before: Snapshot) -> None:
        self.snapshot = before
        self._skipped.add(model_id)
        self.decisions.append(d.SkipModel(model_id, traceback.format_exc(limit=-8)))
