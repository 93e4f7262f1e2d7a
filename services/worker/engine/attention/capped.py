"""Attention over capped scores, which no kernel computes."""

import torch

from services.worker.engine.attention.spans import Scores


def capped_attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scores: Scores,
) -> torch.Tensor:
    """`[…, rows, head_dim]` over `[…, keys, head_dim]`."""
    assert scores.cap is not None
    products = queries @ keys.transpose(-1, -2)
    products = products.mul_(scores.scale).div_(scores.cap).tanh_().mul_(scores.cap)
    if mask is not None:
        products = products.add_(mask)
    shares = products.softmax(-1, dtype=torch.float32).to(queries.dtype)
    return shares @ values
