"""Decode steps as graphs: one launch for all layers instead of a dozen for each.

A step of decodes alone runs the same kernels whatever its sequences are; only the numbers in a few
small tensors change. So the layers are captured once for each of some batch sizes, over tensors
that stay where they are, and a step of fewer rows repeats its first one until the size is full: the
same token, written to the same slot. A graph that cannot be captured is done without.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from services.worker.engine.attention.attention import Attention
from services.worker.engine.attention.context import StepContext, StepContexts
from services.worker.engine.attention.kv_cache import KvCache
from services.worker.engine.attention.spans import Scores
from services.worker.engine.execution.graphs import Decodes, GraphBackend, Replay
from services.worker.engine.execution.microbatch import MicroBatch
from services.worker.engine.model.stage import Stage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DecodeTable:
    """The same as one tensor, so that one copy tells a step's numbers."""

    numbers: torch.Tensor  # [4, rows + 1] int64: positions, slots, kv_starts, kv_lengths

    @classmethod
    def empty(cls, num_rows: int, device: torch.device) -> "DecodeTable":
        """Every row is the first token of a sequence at slot 0."""
        numbers = torch.zeros((4, num_rows + 1), dtype=torch.int64, device=device)
        numbers[3] = 1
        return cls(numbers)

    @property
    def decodes(self) -> Decodes:
        positions, slots, kv_starts, kv_lengths = self.numbers
        return Decodes(positions[:-1], slots[:-1], kv_starts, kv_lengths[:-1])

    def fill(self, batch: MicroBatch) -> None:
        """Rows beyond the batch's are as its first."""
        rows = [
            (p.position, p.region_start + p.position, p.region_start, p.end) for p in batch.pieces
        ]
        num_rows = self.numbers.shape[1] - 1
        rows += [rows[0]] * (num_rows - len(rows))
        self.numbers[:, :-1].copy_(torch.tensor(rows).T)


@dataclass(frozen=True)
class _Graph:
    table: DecodeTable
    hidden: torch.Tensor  # [rows, hidden]
    replay: Replay

    def run(self, batch: MicroBatch, hidden: torch.Tensor) -> torch.Tensor:
        num_rows = len(hidden)
        self.table.fill(batch)
        self.hidden[:num_rows].copy_(hidden)
        self.hidden[num_rows:].copy_(hidden[:1].expand(len(self.hidden) - num_rows, -1))
        return self.replay()[:num_rows]


class DecodeGraphs:
    """Of one stage; for the thread that runs it, without gradients."""

    def __init__(
        self,
        backend: GraphBackend,
        stage: Stage,
        contexts: StepContexts,
        *,
        cache: KvCache,
        scratch: KvCache,
        max_rows: int,
        max_length: int,
    ) -> None:
        """`scratch` is a cache of one slot, for what is computed before a capture only."""
        self._backend, self._stage, self._contexts = backend, stage, contexts
        self._cache, self._scratch = cache, scratch
        self._max_length = max_length
        self._graphs: dict[int, _Graph] = {}  # by their rows, ascending
        self._work = self._capture_all(batch_sizes(max_rows))

    def capture_next(self) -> bool:
        """Capture one more size; False when there is none, or when one failed."""
        return next(self._work, False)

    def run(self, batch: MicroBatch, hidden: torch.Tensor) -> torch.Tensor | None:
        """`[rows, hidden]` in and out; None for a step that no graph can do.

        What comes out is good until the next call.
        """
        if not all(piece.is_decode for piece in batch.pieces):
            return None
        size = next((size for size in self._graphs if size >= len(hidden)), None)
        return None if size is None else self._graphs[size].run(batch, hidden)

    def _capture_all(self, sizes: tuple[int, ...]) -> Iterator[bool]:
        for size in sizes:
            try:
                self._graphs[size] = self._capture(size)
            except RuntimeError as exc:
                logger.warning("no graph of %d decodes, nor of more: %s", size, exc)
                return
            yield True

    def _capture(self, size: int) -> _Graph:
        device, dtype = self._cache.keys[0].device, self._cache.keys[0].dtype
        table = DecodeTable.empty(size, device)
        shape = (size, self._stage.config.hidden_size)
        hidden = torch.zeros(shape, dtype=dtype, device=device)

        def compute(cache: KvCache) -> torch.Tensor:
            return self._stage.run_layers(hidden, self._context(table.decodes), cache)

        compute(self._scratch)  # loads kernels, which a capture could not
        return _Graph(table, hidden, self._backend.capture(lambda: compute(self._cache)))

    def _context(self, decodes: Decodes) -> StepContext:
        def attention(scores: Scores) -> Attention:
            return self._backend.attention(decodes, scores, self._max_length)

        return self._contexts.at(decodes.positions, decodes.slots, attention)


def batch_sizes(max_rows: int) -> tuple[int, ...]:
    """Doubling, so that at most half of a graph's rows are idle; the last is `max_rows`."""
    sizes = [1]
    while sizes[-1] < max_rows:
        sizes.append(min(2 * sizes[-1], max_rows))
    return tuple(sizes)
