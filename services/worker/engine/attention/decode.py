"""Attention of decodes, one row per sequence: alone, or those of like length in one kernel."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Protocol

import torch
import torch.nn.functional as F

from services.worker.engine.attention.capped import capped_attention
from services.worker.engine.attention.spans import Scores, Span

# Decodes over more keys than this gain nothing from company: reading keys is all they do.
MAX_GATHERED_KEYS = 512
# Over so few keys a lone decode gains nothing from grouped queries; it keeps transformers' steps.
MAX_PLAIN_KEYS = 128
_MIN_BUCKET = 6  # of lengths in bits: what is shorter than 2^6 goes together


class AttentionPart(Protocol):
    """Some rows of the step."""

    def __call__(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        output: torch.Tensor,
    ) -> None:
        """`[rows, heads, head_dim]` over `[slots, kv_heads, head_dim]`, into the output's rows."""


def decode_parts(
    spans: Iterable[Span], scores: Scores, dtype: torch.dtype, device: torch.device
) -> Iterator[AttentionPart]:
    """Who goes together; each span has one row."""
    for bucket, group in groupby(sorted(spans, key=_by_length), key=_bucket):
        alike = tuple(group)
        if bucket is None or len(alike) == 1:
            yield from (_Decode(span, scores) for span in alike)
        else:
            yield _Decodes(alike, scores, dtype, device)


class _Decode:
    """The one row of a sequence, over its keys where they lie in the cache."""

    def __init__(self, span: Span, scores: Scores) -> None:
        self._scores = scores
        self._row = span.row_start
        self._kv_range = (span.kv_start, span.kv_length)

    def __call__(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        output: torch.Tensor,
    ) -> None:
        row = queries.narrow(0, self._row, 1)
        keys = keys.narrow(0, *self._kv_range).unsqueeze(0)
        values = values.narrow(0, *self._kv_range).unsqueeze(0)
        if keys.shape[1] <= MAX_PLAIN_KEYS and self._scores.cap is None:
            attended = _attend_plainly(row, keys, values, self._scores)
        else:
            attended = _attend_decodes(row, keys, values, None, self._scores)
        output.narrow(0, self._row, 1).copy_(attended)


class _Decodes:
    """One row each of sequences of like length, in one kernel over a copy of their keys."""

    def __init__(
        self, spans: tuple[Span, ...], scores: Scores, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._scores = scores
        table = [(span.row_start, span.kv_start, span.kv_length) for span in spans]
        rows, starts, lengths = torch.tensor(table).T.unsqueeze(-1)  # each [sequences, 1]
        self._shape = (len(spans), int(lengths.max()))
        places = torch.arange(self._shape[1])
        self._rows = rows[:, 0].to(device)
        # Beyond its end a sequence's last key stands in, which the mask hides.
        self._slots = (starts + places.minimum(lengths - 1)).flatten().to(device)
        self._mask: torch.Tensor | None = None
        if int(lengths.min()) < self._shape[1]:
            hidden = torch.zeros(self._shape, dtype=dtype)
            hidden.masked_fill_(places >= lengths, float("-inf"))
            self._mask = hidden.to(device).unsqueeze(1).unsqueeze(1)

    def __call__(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        output: torch.Tensor,
    ) -> None:
        attended = _attend_decodes(
            queries.index_select(0, self._rows),
            keys.index_select(0, self._slots).view(*self._shape, *keys.shape[1:]),
            values.index_select(0, self._slots).view(*self._shape, *values.shape[1:]),
            self._mask,
            self._scores,
        )
        output.index_copy_(0, self._rows, attended)


def _attend_plainly(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scores: Scores
) -> torch.Tensor:
    """Like `_attend_decodes`, by the very steps of transformers' generation.

    Rows of one head sum in another order: in bfloat16, 8 of 20 short answers then part from it at
    near ties.
    """
    attended = F.scaled_dot_product_attention(
        queries.unsqueeze(2),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        scale=scores.scale,
        enable_gqa=True,
    )
    return attended.squeeze(2)


def _attend_decodes(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scores: Scores,
) -> torch.Tensor:
    """`[sequences, heads, head_dim]` over `[sequences, keys, kv_heads, head_dim]`.

    The queries that share a key head go in as rows of one head: the kernel's own support of groups
    copies every key for each query, six times slower.
    """
    grouped = queries.view(len(queries), keys.shape[2], -1, queries.shape[2])
    keys, values = keys.transpose(1, 2), values.transpose(1, 2)
    if scores.cap is not None:
        attended = capped_attention(grouped, keys, values, mask, scores)
    else:
        attended = F.scaled_dot_product_attention(
            grouped, keys, values, attn_mask=mask, scale=scores.scale
        )
    return attended.reshape(queries.shape)


def _by_length(span: Span) -> int:
    return span.kv_length


def _bucket(span: Span) -> int | None:
    """Of lengths that differ by a factor of two at most; None for the long."""
    if span.kv_length > MAX_GATHERED_KEYS:
        return None
    return max(_MIN_BUCKET, (span.kv_length - 1).bit_length())
