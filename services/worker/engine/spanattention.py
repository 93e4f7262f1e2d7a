"""Attention chunk by chunk: every device, every dtype, every kind of score."""

import torch
import torch.nn.functional as F

from services.worker.engine.spans import Scores, Span


class SpanAttention:
    """One kernel call per chunk; what is the same for all layers of a step is made once."""

    def __init__(
        self, spans: tuple[Span, ...], scores: Scores, dtype: torch.dtype, device: torch.device
    ) -> None:
        visible = [span.within(scores.window) for span in spans]
        self._scores = scores
        self._num_rows = [span.num_rows for span in spans]
        self._kv_ranges = [(span.kv_start, span.kv_length) for span in visible]
        self._is_causal = [_is_plainly_causal(span, scores) for span in visible]
        self._masks = [
            None if span.num_rows == 1 or is_causal else _mask(span, scores.window, dtype, device)
            for span, is_causal in zip(visible, self._is_causal, strict=True)
        ]

    def __call__(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        # The kernel wants [1, heads, tokens, head_dim]; all of these are views.
        rows = queries.transpose(0, 1).unsqueeze(0).split_with_sizes(self._num_rows, 2)
        keys, values = keys.transpose(0, 1).unsqueeze(0), values.transpose(0, 1).unsqueeze(0)
        outputs = [
            self._attend(
                rows_of_chunk,
                keys.narrow(2, start, length),
                values.narrow(2, start, length),
                mask,
                is_causal,
            )
            for rows_of_chunk, (start, length), mask, is_causal in zip(
                rows, self._kv_ranges, self._masks, self._is_causal, strict=True
            )
        ]
        output = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)
        return output.squeeze(0).transpose(0, 1).flatten(1)

    def _attend(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor | None,
        is_causal: bool,
    ) -> torch.Tensor:
        scale, cap = self._scores.scale, self._scores.cap
        if cap is not None:
            return _capped_attention(queries, keys, values, mask, scale, cap)
        return F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=mask,
            is_causal=is_causal,
            scale=scale,
            enable_gqa=True,
        )


def _is_plainly_causal(span: Span, scores: Scores) -> bool:
    """Whether the kernel's own causal mask is the right one, and it has one."""
    is_first = span.num_rows == span.kv_length > 1
    return is_first and scores.cap is None and span.num_rows <= (scores.window or span.num_rows)


def _mask(span: Span, window: int | None, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """`[rows, keys]`, added to the scores: minus infinity where a row does not see a key."""
    hidden = torch.full((span.num_rows, span.kv_length), float("-inf"), dtype=dtype, device=device)
    own = span.kv_length - span.num_rows  # the key of row 0 itself
    mask = hidden.triu(diagonal=own + 1)
    return mask if window is None else mask.add_(hidden.tril_(diagonal=own - window))


def _capped_attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    cap: float,
) -> torch.Tensor:
    """`[1, heads, rows, head_dim]` over `[1, kv_heads, keys, head_dim]`; no kernel caps scores."""
    groups = queries.view(1, keys.shape[1], -1, *queries.shape[2:])
    scores = groups @ keys.unsqueeze(2).transpose(-1, -2)
    scores = scores.mul_(scale).div_(cap).tanh_().mul_(cap)
    if mask is not None:
        scores = scores.add_(mask)
    shares = scores.softmax(-1, dtype=torch.float32).to(queries.dtype)
    return (shares @ values.unsqueeze(2)).flatten(1, 2)
