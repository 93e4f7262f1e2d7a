"""How long steps take, and how long prompts and decode steps of an engine that does nothing else.
Pure, no torch.

A decode step counts from its plan to its tokens, through all stages; a prompt from its first chunk
to its first token, if all that was launched meanwhile was of it. What shares the engine with
something else says little of either, and is left out.

The first decode steps of an engine take two to four times as long as later ones: caches are cold,
and what else belongs to its start goes on beside them. They tell something only of an engine that
has done nothing since.
"""

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Final

from libs.common.decode_batches import decode_batch
from services.worker.engine.scheduling.batch import Chunk
from services.worker.engine.scheduling.sequence import Sequence
from services.worker.engine_port import DecodeTime

STEP_WEIGHT: Final = 1 / 16  # of the latest step in a mean
FIRST_STEPS: Final = 16  # of an engine that decode
ENOUGH_STEPS: Final = 16  # of a batch for a mean while more are to come
PROMPT_DECAY: Final = 0.8  # of a prompt's weight with each later one; longer prompts weigh more
# So many tokens take as long as one: the weights are read once for all of them. A shorter prompt
# counts as one of that length, else a longer one would seem to take for ever.
LEAST_PROMPT_TOKENS: Final = 32


@dataclass(frozen=True)
class _Timed:
    """What runs alone: a step, or with `prompt_of` a prompt."""

    since_s: float
    chunks: Many[Chunk]
    prompt_of: Sequence | None = None


@dataclass
class _MeanStep:
    """Of the decode steps of a batch."""

    mean_s: float = 0.0
    num_steps: int = 0

    def add(self, took_s: float) -> None:
        """The first ones have equal weights: one of them is no more usual than another."""
        self.num_steps += 1
        self.mean_s += max(STEP_WEIGHT, 1 / self.num_steps) * (took_s - self.mean_s)


class StepMeter:
    """Times are those of one clock, given by the caller."""

    def __init__(self) -> None:
        self.mean_step_s = 0.0  # of all steps that ran tokens
        self._timed: _Timed | None = None
        self._prompt_s, self._prompt_tokens = 0.0, 0.0
        self._num_decodes = 0
        self._first: dict[int, _MeanStep] = {}  # of the first steps, by batch
        self._later: dict[int, _MeanStep] = {}

    @property
    def prefill_s_per_token(self) -> float | None:
        return self._prompt_s / self._prompt_tokens if self._prompt_tokens else None

    def decode_times(self, *, is_idle: bool) -> tuple[DecodeTime, ...]:
        """By batch. `is_idle`: no step is to come, so that few must do."""
        known = {**self._first, **self._later} if is_idle else self._later
        return tuple(
            DecodeTime(batch, mean.mean_s)
            for batch, mean in sorted(known.items())
            if is_idle or mean.num_steps >= ENOUGH_STEPS
        )

    def note_step(self, took_s: float) -> None:
        """Of any kind."""
        weight = STEP_WEIGHT if self.mean_step_s else 1.0
        self.mean_step_s += weight * (took_s - self.mean_step_s)

    def launched(self, chunks: Many[Chunk], since_s: float, *, is_alone: bool) -> None:
        """A step that was begun then; `is_alone`: nothing else was in flight, and every stage has
        its weights."""
        if self._is_next_of_prompt(chunks):
            return
        self._timed = None
        if not is_alone:
            return
        if all(_is_decode(chunk) for chunk in chunks):
            self._timed = _Timed(since_s, chunks)
        elif len(chunks) == 1 and chunks[0].start == 0:
            self._timed = _Timed(since_s, chunks, chunks[0].sequence)

    def returned(self, chunks: Many[Chunk], now_s: float, *, is_sampled: bool) -> None:
        """A step has come back, and its tokens are there."""
        timed = self._timed
        if timed is None:
            return
        if timed.prompt_of is None:
            if timed.chunks is chunks:
                self._timed = None
                self._note_decode(len(chunks), now_s - timed.since_s)
        elif is_sampled:
            self._timed = None
            self._note_prompt(chunks[0].end, now_s - timed.since_s)

    def _is_next_of_prompt(self, chunks: Many[Chunk]) -> bool:
        sequence = None if self._timed is None else self._timed.prompt_of
        if sequence is None or len(chunks) != 1 or chunks[0].sequence is not sequence:
            return False
        return chunks[0].start > 0  # or it begins anew

    def _note_decode(self, num_sequences: int, took_s: float) -> None:
        means = self._first if self._num_decodes < FIRST_STEPS else self._later
        self._num_decodes += 1
        means.setdefault(decode_batch(num_sequences), _MeanStep()).add(took_s)

    def _note_prompt(self, num_tokens: int, took_s: float) -> None:
        counted = max(num_tokens, LEAST_PROMPT_TOKENS)
        self._prompt_s = PROMPT_DECAY * self._prompt_s + took_s
        self._prompt_tokens = PROMPT_DECAY * self._prompt_tokens + counted


def _is_decode(chunk: Chunk) -> bool:
    """Rarely, it is a prompt's last token."""
    return chunk.length == 1 and chunk.start > 0 and chunk.is_sampled
