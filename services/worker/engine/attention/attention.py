"""Causal attention of a step's chunks over their cached tokens.

Two ways, chosen once: one kernel over all chunks where the device has it (`packed_kernel.py`),
otherwise chunk by chunk. Both read keys and values where they lie in the cache.
"""

from collections.abc import Callable

import torch

from services.worker.engine.attention.by_span import SpanAttention
from services.worker.engine.attention.packed import PackedAttention, PackedKernel, PackedRanges
from services.worker.engine.attention.spans import Scores, Span

# queries [rows, heads, head_dim], keys and values [slots, kv_heads, head_dim] -> [rows, hidden]
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def build_attention(
    spans: tuple[Span, ...],
    scores: Scores,
    kernel: PackedKernel | None,
    dtype: torch.dtype,
    device: torch.device,
) -> Attention:
    """What every layer of one step calls that has these scores."""
    if kernel is not None and scores.cap is None:
        return PackedAttention(PackedRanges.of_spans(spans, device), scores, kernel)
    return SpanAttention(spans, scores, dtype, device)
