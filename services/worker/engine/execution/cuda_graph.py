"""CUDA graphs, by torch."""

from collections.abc import Callable
from functools import cached_property

import torch

from services.worker.engine.attention.attention import Attention
from services.worker.engine.attention.packed import PackedAttention, PackedKernel, PackedRanges
from services.worker.engine.attention.spans import Scores
from services.worker.engine.execution.graphs import Decodes, Replay


class CudaGraphs:
    """The port `GraphBackend`; all graphs share one pool, as no two run at once."""

    def __init__(self, kernel: PackedKernel) -> None:
        """`kernel` is the one of eager steps: what it launches must not depend on lengths."""
        self._kernel = kernel

    @cached_property
    def _pool(self) -> "torch.cuda._POOL_HANDLE":
        return torch.cuda.graph_pool_handle()

    def attention(self, decodes: Decodes, scores: Scores, max_length: int) -> Attention:
        num_rows = len(decodes.slots)
        offsets = torch.arange(num_rows + 1, dtype=torch.int32, device=decodes.slots.device)
        starts, lengths = decodes.kv_starts.int(), decodes.kv_lengths.int()
        ranges = PackedRanges(offsets, starts, lengths, 1, max_length)
        return PackedAttention(ranges, scores, self._kernel)

    def capture(self, compute: Callable[[], torch.Tensor]) -> Replay:
        graph = torch.cuda.CUDAGraph()
        # Only this thread's calls are held against it: others may still copy weights.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            output = compute()

        def replay() -> torch.Tensor:
            graph.replay()
            return output

        return replay
