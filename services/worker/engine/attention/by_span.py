"""Attention chunk by chunk, decodes of like length together: every device, dtype, kind of score."""

import torch
import torch.nn.functional as F

from services.worker.engine.attention.capped import capped_attention
from services.worker.engine.attention.decode import AttentionPart, decode_parts
from services.worker.engine.attention.spans import Scores, Span


class SpanAttention:
    """What is the same for all layers of a step is made once."""

    def __init__(
        self,
        spans: tuple[Span, ...],
        scores: Scores,
        dtype: torch.dtype,
        device: torch.device,
        *,
        has_grouped_kernel: bool | None = None,
    ) -> None:
        """`has_grouped_kernel`: whether the device's fused kernel knows groups of queries; None:
        only a CPU's does. Elsewhere every key would be copied for each query, in float32.
        """
        if has_grouped_kernel is None:
            has_grouped_kernel = device.type == "cpu"
        make_chunk = _Chunk if has_grouped_kernel or scores.cap is not None else _RowsOfGroups
        visible = [span.within(scores.window) for span in spans]
        self._parts: list[AttentionPart] = [
            make_chunk(span, scores, dtype, device) for span in visible if span.num_rows > 1
        ]
        decodes = [span for span in visible if span.num_rows == 1]
        self._parts += decode_parts(decodes, scores, dtype, device)

    def __call__(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        output = queries.new_empty(queries.shape)
        for part in self._parts:
            part(queries, keys, values, output)
        return output.flatten(1)


class _Chunk:
    """Several rows of one sequence."""

    def __init__(
        self, span: Span, scores: Scores, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._scores = scores
        self._rows = (span.row_start, span.num_rows)
        self._kv_range = (span.kv_start, span.kv_length)
        self._is_causal = _is_plainly_causal(span, scores)
        self._mask = None if self._is_causal else _mask(span, scores.window, dtype, device)

    def __call__(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        output: torch.Tensor,
    ) -> None:
        queries, keys, values = (
            part.unsqueeze(0).transpose(1, 2)  # [1, heads, tokens, head_dim], views
            for part in (
                queries.narrow(0, *self._rows),
                keys.narrow(0, *self._kv_range),
                values.narrow(0, *self._kv_range),
            )
        )
        if self._scores.cap is not None:
            groups = queries.view(1, keys.shape[1], -1, *queries.shape[2:])
            keys, values = keys.unsqueeze(2), values.unsqueeze(2)
            attended = capped_attention(groups, keys, values, self._mask, self._scores)
            attended = attended.flatten(1, 2)
        else:
            attended = F.scaled_dot_product_attention(
                queries,
                keys,
                values,
                attn_mask=self._mask,
                is_causal=self._is_causal,
                scale=self._scores.scale,
                enable_gqa=True,
            )
        output.narrow(0, *self._rows).copy_(attended[0].transpose(0, 1))


class _RowsOfGroups:
    """The same; queries that share a key head are rows of one head, so that no key is copied."""

    def __init__(
        self, span: Span, scores: Scores, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._scale = scores.scale
        self._rows = (span.row_start, span.num_rows)
        self._kv_range = (span.kv_start, span.kv_length)
        self._mask = _mask(span, scores.window, dtype, device)
        self._mask_of_groups: torch.Tensor | None = None  # one after the other, made once

    def __call__(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        output: torch.Tensor,
    ) -> None:
        num_rows, num_kv_heads, head_dim = self._rows[1], keys.shape[1], keys.shape[2]
        # [kv_heads, groups, rows, head_dim], then the rows of all groups of a key head
        groups = queries.narrow(0, *self._rows).view(num_rows, num_kv_heads, -1, head_dim)
        rows = groups.permute(1, 2, 0, 3).reshape(1, num_kv_heads, -1, head_dim)
        if self._mask_of_groups is None:
            self._mask_of_groups = self._mask.repeat(rows.shape[2] // num_rows, 1)
        attended = F.scaled_dot_product_attention(
            rows,
            keys.narrow(0, *self._kv_range).unsqueeze(0).transpose(1, 2),
            values.narrow(0, *self._kv_range).unsqueeze(0).transpose(1, 2),
            attn_mask=self._mask_of_groups,
            scale=self._scale,
        )
        attended = attended.reshape(num_kv_heads, -1, num_rows, head_dim).permute(2, 0, 1, 3)
        output.narrow(0, *self._rows).copy_(attended.reshape(num_rows, -1, head_dim))


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
