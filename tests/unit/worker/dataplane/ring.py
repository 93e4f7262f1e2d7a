"""Two or more stages of one test, linked to each other, and the messages that they exchange."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from services.worker.engine.execution.microbatch import KvExport, MicroBatch, Piece, SlotMove
from services.worker.frames.dataplane import Neighbour, Security
from services.worker.runtime.dataplane.plane import DataPlane
from services.worker.runtime.dataplane.watch import Neighbours

HOST = "127.0.0.1"
ROW_BYTES = 1152  # 576 values of two bytes
PATIENCE_S = 10.0


def neighbour(plane: DataPlane, stage: int) -> Neighbour:
    return Neighbour(stage, plane.address, plane.keys.public)


@contextmanager
def linked_ring(num_stages: int, security: Security) -> Iterator[list[DataPlane]]:
    with ExitStack() as stack:
        planes = [
            stack.enter_context(DataPlane(stage=stage, host=HOST, security=security))
            for stage in range(num_stages)
        ]
        for stage, plane in enumerate(planes):
            before, after = (stage - 1) % num_stages, (stage + 1) % num_stages
            plane.connect(
                Neighbours(neighbour(planes[before], before), neighbour(planes[after], after))
            )
        for plane in planes:
            plane.wait_linked(PATIENCE_S)
        yield planes


def random_message(chance: random.Random, number: int) -> tuple[MicroBatch, bytes]:
    """A micro-batch with whatever numbers, and as many rows as it speaks of."""
    pieces = tuple(
        Piece(chance.randrange(2**32), chance.randrange(2**31), chance.randint(1, 40), flag)
        for flag in chance.choices((True, False), k=chance.randint(0, 8))
    )
    moves = tuple(
        SlotMove(chance.randrange(2**32), chance.randrange(2**32), chance.randrange(2**32))
        for _ in range(chance.randint(0, 3))
    )
    exports = tuple(
        KvExport(chance.randrange(2**64), *(chance.randrange(2**32) for _ in range(3)))
        for _ in range(chance.randint(0, 3))
    )
    batch = MicroBatch(number, moves, pieces, exports)
    return batch, chance.randbytes(batch.num_tokens * ROW_BYTES)
