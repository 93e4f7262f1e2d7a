"""Attention of all chunks in one kernel: FlashAttention on CUDA, 16-bit types."""

from itertools import accumulate

import torch

from services.worker.engine.spans import Scores, Span


class PackedAttention:
    """One FlashAttention call over all chunks: CUDA, 16-bit types."""

    def __init__(self, spans: tuple[Span, ...], scores: Scores, device: torch.device) -> None:
        assert scores.cap is None
        rows = [0, *accumulate(span.num_rows for span in spans)]
        # Where each chunk's keys begin. The last entry is never read: lengths are given apart.
        starts = [*(span.kv_start for span in spans), 0]
        lengths = [span.kv_length for span in spans]
        packed = torch.tensor([*rows, *starts, *lengths], dtype=torch.int32).to(device)
        self._row_offsets, self._kv_offsets = packed[: len(rows)], packed[len(rows) : -len(spans)]
        self._kv_lengths = packed[-len(spans) :]
        self._max_rows = max(span.num_rows for span in spans)
        self._max_length = max(lengths)
        self._scale = scores.scale
        # The kernel counts the tokens before the query's own.
        self._num_before = None if scores.window is None else scores.window - 1

    def __call__(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        # What torch.nn.attention.varlen calls, without its wrapper's time on every layer.
        output: torch.Tensor = torch.ops.aten._flash_attention_forward(
            queries,
            keys,
            values,
            self._row_offsets,
            self._kv_offsets,
            self._max_rows,
            self._max_length,
            dropout_p=0.0,
            is_causal=True,  # aligned to each chunk's last key
            return_debug_mask=False,
            scale=self._scale,
            window_size_left=self._num_before,
            window_size_right=None if self._num_before is None else 0,
            seqused_k=self._kv_lengths,
        )[0]
        return output.flatten(1)
