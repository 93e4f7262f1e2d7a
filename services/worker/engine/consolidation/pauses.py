"""How long each request waited at the switch: the whole gap between the last token that it had from
the pipeline and its first from the whole model, by this process's clock. What its gaps are usually
is told beside it and not taken off."""

from collections import deque
from collections.abc import Callable, Iterable
from itertools import pairwise
from statistics import median
from typing import Final

from services.worker.engine.scheduling.sequence import Sequence
from services.worker.engine_port import ConsolidationEvents, Pause

NUM_TOKENS: Final = 16  # of each request whose times are kept: the usual gap is their median


class PauseMeter:
    """For the thread that owns the engine: `note` of all tokens, `switch` between the two.

    A request that had no token from the pipeline yet has no pause, nor has one that ends first.
    """

    def __init__(self, events: ConsolidationEvents, monotonic_s: Callable[[], float]) -> None:
        self._events, self._monotonic_s = events, monotonic_s
        self._has_switched = self._has_stepped = self._has_ended = False
        self._token_times_s: dict[Sequence, deque[float]] = {}  # then of those that still wait
        self._pauses: list[Pause] = []

    @property
    def has_ended(self) -> bool:
        """All is told."""
        return self._has_ended

    def note(self, sequences: Iterable[Sequence]) -> None:
        """Each has a token now."""
        now_s = self._monotonic_s()
        for sequence in sequences:
            if not self._has_switched:
                times_s = self._token_times_s.setdefault(sequence, deque(maxlen=NUM_TOKENS))
                times_s.append(now_s)
            elif sequence in self._token_times_s:
                self._end_pause(sequence, now_s)
        if self._has_switched:
            self._tell()

    def switch(self, running: Iterable[Sequence]) -> None:
        """The pipeline is left; these ran at that moment."""
        self._has_switched = True
        self._forget_all_but(running)

    def keep_only(self, living: Iterable[Sequence]) -> None:
        """The others have ended."""
        kept = self._forget_all_but(living)
        if self._has_switched and (self._has_stepped or not kept):
            self._tell()

    def _forget_all_but(self, sequences: Iterable[Sequence]) -> set[Sequence]:
        kept = set(sequences)
        for sequence in self._token_times_s.keys() - kept:
            del self._token_times_s[sequence]
        return kept

    def _end_pause(self, sequence: Sequence, now_s: float) -> None:
        times_s = self._token_times_s.pop(sequence)
        gaps_s = [after_s - before_s for before_s, after_s in pairwise(times_s)]
        usual_s = median(gaps_s) if gaps_s else None
        self._pauses.append(Pause(sequence.request.request_id, now_s - times_s[-1], usual_s))

    def _tell(self) -> None:
        """That the first tokens are out; and all pauses, once nobody waits any more."""
        if not self._has_stepped:
            self._has_stepped = True
            self._events.stepped()
        if not self._token_times_s and not self._has_ended:
            self._has_ended = True
            self._events.paused(tuple(self._pauses))
