"""What a stage accepts from its neighbour, and how rows follow from pieces."""

import pytest

from services.worker.engine.errors import MicroBatchRefused
from services.worker.engine.execution.microbatch import (
    MicroBatch,
    Piece,
    SlotMove,
    StageCapacity,
    check_micro_batch,
)

CAPACITY = StageCapacity(num_slots=100, max_context_tokens=50, max_tokens=20)
BATCH = MicroBatch(3, (SlotMove(0, 40, 40),), (Piece(40, 10, 2, False), Piece(90, 0, 3, True)))


def test_rows_follow_the_pieces() -> None:
    assert BATCH.num_tokens == 5
    assert BATCH.positions == [10, 11, 0, 1, 2]
    assert BATCH.slots == [50, 51, 90, 91, 92]
    assert (BATCH.sampled_rows, BATCH.num_sampled) == ([4], 1)
    assert BATCH.answer == MicroBatch(3, (), ())


def test_what_fits_is_accepted() -> None:
    check_micro_batch(BATCH, 5, CAPACITY)


REFUSED = (
    ((), (Piece(0, 0, 5, True),), 4, "5 tokens, 4 rows"),
    ((), (Piece(0, 0, 21, True),), 21, "at most 20"),
    ((), (Piece(0, 5, 0, False),), 0, "is empty"),
    ((), (Piece(0, 48, 3, True),), 3, "beyond the context"),
    ((), (Piece(96, 2, 3, True),), 3, "beyond 100 cache slots"),
    ((SlotMove(0, 70, 31),), (), 0, "beyond 100 cache slots"),
    ((SlotMove(70, 0, 31),), (), 0, "beyond 100 cache slots"),
    ((SlotMove(10, 0, 11),), (), 0, "overlaps itself"),
)


@pytest.mark.parametrize(
    ("moves", "pieces", "num_rows", "reason"), REFUSED, ids=[r for *_, r in REFUSED]
)
def test_what_reaches_beyond_the_stage_is_refused(
    moves: tuple[SlotMove, ...], pieces: tuple[Piece, ...], num_rows: int, reason: str
) -> None:
    with pytest.raises(MicroBatchRefused, match=f"micro-batch 9: .*{reason}"):
        check_micro_batch(MicroBatch(9, moves, pieces), num_rows, CAPACITY)
