"""Which tokens of which sequences run in the next micro-batch. Pure, no torch.

Decoding sequences come first, one token each, so that nobody's stream stalls behind a long prompt.
What is left of the step's token budget goes to prompts: half to the oldest, which therefore always
moves on, the rest to those that are nearest to their first token. With several stages the sequences
are spread over as many micro-batches, so that every stage has work; a prompt of several chunks has
the next one follow before the last is back.
"""

from collections.abc import Sequence as Many
from dataclasses import dataclass

from services.worker.engine.scheduling.sequence import Sequence


@dataclass(frozen=True)
class Chunk:
    """Tokens [start, start + length) of a sequence, computed in one step."""

    sequence: Sequence
    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length

    @property
    def is_sampled(self) -> bool:
        """Whether it reaches the last known token, whose hidden state decides the next one."""
        return self.end == len(self.sequence.token_ids)


def plan_chunks(
    running: Many[Sequence], max_tokens: int, num_batches: int = 1
) -> tuple[Chunk, ...]:
    """At most `max_tokens` tokens, decodes first.

    With `num_batches` micro-batches at once, each takes its share of decodes and of prompts, and
    rather those that are not in flight.
    """
    oldest_first = sorted(running, key=lambda s: s.arrival)
    decoding = _share_of([s for s in oldest_first if s.is_decoding], num_batches)[:max_tokens]
    prefilling = _share_of([s for s in oldest_first if not s.is_decoding], num_batches)
    lengths = _lengths(prefilling, max_tokens - len(decoding))
    chunks = [Chunk(s, s.num_launched, 1) for s in decoding]
    chunks += [Chunk(s, s.num_launched, n) for s, n in zip(prefilling, lengths, strict=True) if n]
    return tuple(chunks)


def _share_of(oldest_first: list[Sequence], num_batches: int) -> list[Sequence]:
    """As many as one micro-batch may take, again the oldest first."""
    able = [s for s in oldest_first if s.num_pending > 0]
    able.sort(key=lambda s: s.is_in_flight)
    return sorted(able[: -(-len(oldest_first) // num_batches)], key=lambda s: s.arrival)


def _lengths(prefilling: list[Sequence], num_tokens: int) -> list[int]:
    """How many tokens each prompt gets; the list is ordered by arrival."""
    lengths = [0] * len(prefilling)
    if not prefilling or num_tokens == 0:
        return lengths
    lengths[0] = min(prefilling[0].num_pending, -(-num_tokens // 2))
    left = num_tokens - lengths[0]
    nearest_first = sorted(
        range(len(prefilling)), key=lambda index: prefilling[index].num_pending - lengths[index]
    )
    for index in nearest_first:
        extra = min(prefilling[index].num_pending - lengths[index], left)
        lengths[index] += extra
        left -= extra
    return lengths
