"""Causal attention of a step's chunks over their cached tokens.

Two ways, chosen once: one kernel over all chunks where the device has it (FlashAttention on CUDA
with 16-bit types), otherwise chunk by chunk. Both read keys and values where they lie in the cache.
"""

from collections.abc import Callable

import torch

from services.worker.engine.packedattention import PackedAttention
from services.worker.engine.spanattention import SpanAttention
from services.worker.engine.spans import Scores, Span

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
    has_kernel = dtype.itemsize == 2 and head_dim % 8 == 0 and head_dim <= 256
    if device.type == "cuda" and has_kernel and scores.cap is None:
        return PackedAttention(spans, scores, device)
    return SpanAttention(spans, scores, dtype, device)
