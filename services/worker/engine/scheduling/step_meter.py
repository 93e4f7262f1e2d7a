"""How long steps take, and how long prompts and decode steps of an engine that does nothing else.
Pure, no torch.

A decode step counts from its plan to its tokens, through all stages; a prompt from its first chunk
to its first token, if all that was launched meanwhile was of it. What shares the engine with
something else says little of either, and is left out.
"""

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Final

from libs.common.decode_batches import decode_batch
from services.worker.engine.scheduling.batch import Chunk
from services.worker.engine.scheduling.sequence import Sequence
from services.worker.engine_port import DecodeTime

STEP_WEIGHT: Final = 1 / 16  # of the latest step in a mean
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


class StepMeter:
    """Times are those of one clock, given by the caller."""

    def __init__(self) -> None:
        self.mean_step_s = 0.0  # of all steps that ran tokens
        self._timed: _Timed | None = None
        self._prompt_s, self._prompt_tokens = 0.0, 0.0
        self._decode_s: dict[int, float] = {}  # by batch
        self._num_decodes: dict[int, int] = {}

    @property
    def prefill_s_per_token(self) -> float | None:
        return self._prompt_s / self._prompt_tokens if self._prompt_tokens else None

    @property
    def decode_times(self) -> tuple[DecodeTime, ...]:
        return tuple(DecodeTime(batch, s) for batch, s in sorted(self._decode_s.items()))

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
        """The first ones have equal weights: one of them is no more usual than another."""
        batch = decode_batch(num_sequences)
        num_steps = self._num_decodes[batch] = self._num_decodes.get(batch, 0) + 1
        mean_s = self._decode_s.get(batch, 0.0)
        self._decode_s[batch] = mean_s + max(STEP_WEIGHT, 1 / num_steps) * (took_s - mean_s)

    def _note_prompt(self, num_tokens: int, took_s: float) -> None:
        counted = max(num_tokens, LEAST_PROMPT_TOKENS)
        self._prompt_s = PROMPT_DECAY * self._prompt_s + took_s
        self._prompt_tokens = PROMPT_DECAY * self._prompt_tokens + counted


def _is_decode(chunk: Chunk) -> bool:
    """Rarely, it is a prompt's last token."""
    return chunk.length == 1 and chunk.start > 0 and chunk.is_sampled
