"""Attention of all chunks in one kernel: FlashAttention on CUDA, 16-bit types."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from services.worker.engine.attention.spans import Scores, Span

# torch's own operator, or what stands in for it in tests; the attended rows come first.
PackedKernel = Callable[..., Sequence[torch.Tensor]]


@dataclass(frozen=True)
class PackedRanges:
    """Whose rows and keys lie where, as int32 on the GPU."""

    row_offsets: torch.Tensor  # [chunks + 1]
    kv_offsets: torch.Tensor  # [chunks + 1]; the last is never read: lengths are given apart
    kv_lengths: torch.Tensor  # [chunks]
    max_rows: int
    max_length: int

    @classmethod
    def of_spans(cls, spans: tuple[Span, ...], device: torch.device) -> "PackedRanges":
        rows = [0, *accumulate(span.num_rows for span in spans)]
        starts = [*(span.kv_start for span in spans), 0]
        lengths = [span.kv_length for span in spans]
        packed = torch.tensor([*rows, *starts, *lengths], dtype=torch.int32).to(device)
        return cls(
            packed[: len(rows)],
            packed[len(rows) : -len(spans)],
            packed[-len(spans) :],
            max(span.num_rows for span in spans),
            max(lengths),
        )


class PackedAttention:
    """One call of the kernel over all chunks."""

    def __init__(self, ranges: PackedRanges, scores: Scores, kernel: PackedKernel) -> None:
        assert scores.cap is None
        self._ranges, self._kernel = ranges, kernel
        self._scale = scores.scale
        # The kernel counts the tokens before the query's own.
        self._num_before = None if scores.window is None else scores.window - 1

    def __call__(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        output = self._kernel(
            queries,
            keys,
            values,
            self._ranges.row_offsets,
            self._ranges.kv_offsets,
            self._ranges.max_rows,
            self._ranges.max_length,
            dropout_p=0.0,
            is_causal=True,  # aligned to each chunk's last key
            return_debug_mask=False,
            scale=self._scale,
            window_size_left=self._num_before,
            window_size_right=None if self._num_before is None else 0,
            seqused_k=self._ranges.kv_lengths,
        )[0]
        return output.flatten(1)
