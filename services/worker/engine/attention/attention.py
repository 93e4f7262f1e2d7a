"""Causal attention of a step's chunks over their cached tokens.

Two ways, chosen once: one kernel over all chunks where the device has it (FlashAttention on CUDA
with 16-bit types), otherwise chunk by chunk. Both read keys and values where they lie in the cache.
"""

from collections.abc import Callable

import torch

from services.worker.engine.attention.by_span import SpanAttention
from services.worker.engine.attention.packed import PackedAttention, PackedRanges
from services.worker.engine.attention.spans import Scores, Span

# queries [rows, heads, head_dim], keys and values [slots, kv_heads, head_dim] -> [rows, hidden]
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def build_attention(
    spans: tuple[Span, ...],
    scores: Scores,
    head_dim: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Attention:
    """What every layer of one step calls that has these scores."""
    if has_packed_kernel(head_dim, dtype, device) and scores.cap is None:
        return PackedAttention(PackedRanges.of_spans(spans, device), scores)
    return SpanAttention(spans, scores, dtype, device)


def has_packed_kernel(head_dim: int, dtype: torch.dtype, device: torch.device) -> bool:
    """For scores without a cap."""
    is_supported = dtype.itemsize == 2 and head_dim % 8 == 0 and head_dim <= 256
    return device.type == "cuda" and is_supported
