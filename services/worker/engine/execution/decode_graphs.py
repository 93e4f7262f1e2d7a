"""Decode steps as graphs: one launch for all layers instead of a dozen for each.

A step of decodes alone runs the same kernels whatever its sequences are; only the numbers in a few
small tensors change. So the layers are captured once for each of some sizes, over tensors that stay
where they are, and a step of fewer rows repeats its first one until the size is full: the same
token, written to the same slot. A graph that cannot be captured is done without.

A size has a length, too: attention divides the keys among the GPU's processors by the length that
it is told, so a graph for the longest context would leave most of them idle over short ones.
"""

import logging
from collections import deque
from dataclasses import dataclass
from typing import Final

import torch

from services.worker.engine.attention.attention import Attention
from services.worker.engine.attention.context import StepContext, StepContexts
from services.worker.engine.attention.kv_cache import KvCache
from services.worker.engine.attention.spans import Scores
from services.worker.engine.execution.graphs import Decodes, GraphBackend, Replay
from services.worker.engine.execution.microbatch import MicroBatch
from services.worker.engine.model.stage import Stage

logger = logging.getLogger(__name__)

MIN_LENGTH: Final = 512  # of a graph: over fewer keys there is nothing to divide


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
class GraphSize:
    num_rows: int
    max_length: int  # most keys of a sequence

    def holds(self, num_rows: int, length: int) -> bool:
        return self.num_rows >= num_rows and self.max_length >= length


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
        self._row_sizes = batch_sizes(max_rows)
        self._graphs: dict[GraphSize, _Graph] = {}
        shortest = length_bucket(1, max_length)
        self._due = deque(GraphSize(rows, shortest) for rows in self._row_sizes)

    def capture_next(self) -> bool:
        """Capture one more size that steps need; False when there is none, or when one failed."""
        if not self._due:
            return False
        size = self._due.popleft()
        try:
            self._graphs[size] = self._capture(size)
        except RuntimeError as exc:
            logger.warning("no graph of %d decodes, nor of more: %s", size.num_rows, exc)
            self._row_sizes = tuple(rows for rows in self._row_sizes if rows < size.num_rows)
            self._due = deque(due for due in self._due if due.num_rows < size.num_rows)
            return False
        return True

    def run(self, batch: MicroBatch, hidden: torch.Tensor) -> torch.Tensor | None:
        """`[rows, hidden]` in and out; None for a step that no graph can do.

        What comes out is good until the next call.
        """
        if not all(piece.is_decode for piece in batch.pieces):
            return None
        length = max(piece.end for piece in batch.pieces)
        graph = self._graph_for(len(hidden), length)
        return None if graph is None else graph.run(batch, hidden)

    def _graph_for(self, num_rows: int, length: int) -> _Graph | None:
        """The one of that size, or meanwhile a larger one."""
        rows = next((size for size in self._row_sizes if size >= num_rows), None)
        if rows is not None:
            size = GraphSize(rows, length_bucket(length, self._max_length))
            if size in self._graphs:
                return self._graphs[size]
            if size not in self._due:
                self._due.append(size)
        larger = (size for size in self._graphs if size.holds(num_rows, length))
        smallest = min(larger, key=lambda size: (size.max_length, size.num_rows), default=None)
        return None if smallest is None else self._graphs[smallest]

    def _capture(self, size: GraphSize) -> _Graph:
        device, dtype = self._cache.keys[0].device, self._cache.keys[0].dtype
        table = DecodeTable.empty(size.num_rows, device)
        shape = (size.num_rows, self._stage.config.hidden_size)
        hidden = torch.zeros(shape, dtype=dtype, device=device)

        def compute(cache: KvCache) -> torch.Tensor:
            context = self._context(table.decodes, size.max_length)
            return self._stage.run_layers(hidden, context, cache)

        compute(self._scratch)  # loads kernels, which a capture could not
        return _Graph(table, hidden, self._backend.capture(lambda: compute(self._cache)))

    def _context(self, decodes: Decodes, max_length: int) -> StepContext:
        def attention(scores: Scores) -> Attention:
            return self._backend.attention(decodes, scores, max_length)

        return self._contexts.at(decodes.positions, decodes.slots, attention)


def batch_sizes(max_rows: int) -> tuple[int, ...]:
    """Doubling, so that at most half of a graph's rows are idle; the last is `max_rows`."""
    sizes = [1]
    while sizes[-1] < max_rows:
        sizes.append(min(2 * sizes[-1], max_rows))
    return tuple(sizes)


def length_bucket(length: int, max_length: int) -> int:
    """The next power of two, so that no more than half of what attention divides is idle."""
    return min(max_length, max(MIN_LENGTH, 1 << (length - 1).bit_length()))
