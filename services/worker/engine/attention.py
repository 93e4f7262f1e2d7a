"""Causal attention of a step's chunks over their cached tokens.

Two ways, chosen once: one kernel over all chunks where the device has it (FlashAttention on CUDA
with 16-bit types), otherwise scaled_dot_product_attention chunk by chunk. Both read keys and values
where they lie in the cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Span:
    """One chunk: which rows of the step are its queries, which slots hold its keys."""

    row_start: int
    num_rows: int
    kv_start: int
    kv_length: int  # with the chunk's own tokens

    @property
    def row_end(self) -> int:
        return self.row_start + self.num_rows


# queries [rows, heads, head_dim], keys and values [slots, kv_heads, head_dim] -> [rows, hidden]
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def build_attention(
    spans: tuple[Span, ...], head_dim: int, dtype: torch.dtype, device: torch.device
) -> Attention:
    """What every layer of one step calls."""
    has_kernel = dtype.itemsize == 2 and head_dim % 8 == 0 and head_dim <= 256
    if device.type == "cuda" and has_kernel:
        return PackedAttention(spans, device)
    return SpanAttention(spans, dtype, device)


class SpanAttention:
    """One kernel call per chunk: every device, every dtype."""

    def __init__(self, spans: tuple[Span, ...], dtype: torch.dtype, device: torch.device) -> None:
        self._num_rows = [span.num_rows for span in spans]
        self._kv_ranges = [(span.kv_start, span.kv_length) for span in spans]
        self._masks = [_mask(span, dtype, device) for span in spans]
        self._is_causal = [span.num_rows == span.kv_length > 1 for span in spans]

    def __call__(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        # The kernel wants [1, heads, tokens, head_dim]; all of these are views.
        rows = queries.transpose(0, 1).unsqueeze(0).split_with_sizes(self._num_rows, 2)
        keys, values = keys.transpose(0, 1).unsqueeze(0), values.transpose(0, 1).unsqueeze(0)
        outputs = [
            F.scaled_dot_product_attention(
                rows_of_chunk,
                keys.narrow(2, start, length),
                values.narrow(2, start, length),
                attn_mask=mask,
                is_causal=is_causal,
                enable_gqa=True,
            )
            for rows_of_chunk, (start, length), mask, is_causal in zip(
                rows, self._kv_ranges, self._masks, self._is_causal, strict=True
            )
        ]
        output = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)
        return output.squeeze(0).transpose(0, 1).flatten(1)


def _mask(span: Span, dtype: torch.dtype, device: torch.device) -> torch.Tensor | None:
    """Added to the scores of several rows that follow cached tokens; a single row sees all keys."""
    if span.num_rows == 1 or span.num_rows == span.kv_length:
        return None
    mask = torch.full((span.num_rows, span.kv_length), float("-inf"), dtype=dtype, device=device)
    return mask.triu_(diagonal=span.kv_length - span.num_rows + 1)


class PackedAttention:
    """One FlashAttention call over all chunks: CUDA, 16-bit types."""

    def __init__(self, spans: tuple[Span, ...], device: torch.device) -> None:
        rows = [0, *accumulate(span.num_rows for span in spans)]
        # Where each chunk's keys begin. The last entry is never read: lengths are given apart.
        starts = [*(span.kv_start for span in spans), 0]
        lengths = [span.kv_length for span in spans]
        packed = torch.tensor([*rows, *starts, *lengths], dtype=torch.int32).to(device)
        self._row_offsets, self._kv_offsets = packed[: len(rows)], packed[len(rows) : -len(spans)]
        self._kv_lengths = packed[-len(spans) :]
        self._max_rows = max(span.num_rows for span in spans)
        self._max_length = max(lengths)

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
            seqused_k=self._kv_lengths,
        )[0]
        return output.flatten(1)
