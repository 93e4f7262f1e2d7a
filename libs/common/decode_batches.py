"""The batch sizes for which times of decode steps are kept apart: a step of another size counts
with the next larger one, and any above the largest with that."""

from bisect import bisect_left
from typing import Final

DECODE_BATCHES: Final = (1, 2, 4, 8, 16)


def decode_batch(num_sequences: int) -> int:
    """With which of them a step of so many sequences counts."""
    assert num_sequences > 0
    index = bisect_left(DECODE_BATCHES, num_sequences)
    return DECODE_BATCHES[min(index, len(DECODE_BATCHES) - 1)]
