"""torch's FlashAttention operator without a GPU: the same call, computed sequence by sequence.

What it is called with is recorded, and it can be made to do what other versions of torch and older
GPUs do: fail, lack an argument, take lengths for something else.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Final

import torch
import torch.nn.functional as F

SCHEMA: Final = (
    "aten::_flash_attention_forward(Tensor query, Tensor key, Tensor value, Tensor? cum_seq_q, "
    "Tensor? cum_seq_k, SymInt max_q, SymInt max_k, float dropout_p, bool is_causal, "
    "bool return_debug_mask, *, float? scale=None, SymInt? window_size_left=None, "
    "SymInt? window_size_right=None, Tensor? seqused_k=None, Tensor? alibi_slopes=None) -> "
    "(Tensor output, Tensor softmax_logsumexp, Tensor rng_state, Tensor unused, Tensor debug)"
)
TOO_OLD: Final = "FlashAttention only supports Ampere GPUs or newer."


@dataclass
class FlashDouble:
    failure: str | None = None
    ignores_lengths: bool = False  # takes the offsets of keys for cumulative ones, as older ones do
    max_lengths: list[int] = field(default_factory=list)  # `max_k` of each call

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cum_seq_q: torch.Tensor,
        cum_seq_k: torch.Tensor,
        max_q: int,
        max_k: int,
        *,
        dropout_p: float,
        is_causal: bool,
        return_debug_mask: bool,
        scale: float,
        window_size_left: int | None,
        window_size_right: int | None,
        seqused_k: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.failure is not None:
            raise RuntimeError(self.failure)
        assert is_causal and not dropout_p and not return_debug_mask
        assert cum_seq_q.dtype == cum_seq_k.dtype == seqused_k.dtype == torch.int32
        self.max_lengths.append(max_k)
        output = torch.empty_like(query)
        rows, starts, lengths = cum_seq_q.tolist(), cum_seq_k.tolist(), seqused_k.tolist()
        for index, length in enumerate(lengths):
            first, end = rows[index : index + 2]
            if self.ignores_lengths:
                length = max(end - first, starts[index + 1] - starts[index])
            assert length <= max_k and end - first <= max_q
            seen = slice(starts[index], starts[index] + length)
            mask = _mask(end - first, length, window_size_left)
            output[first:end] = _attended(query[first:end], key[seen], value[seen], mask, scale)
        return output, torch.empty(0)


def operators(kernel: Callable[..., object], schema: str = SCHEMA) -> SimpleNamespace:
    """A namespace like torch.ops.aten, with this one operator."""

    class Overload:
        _schema = torch._C.parse_schema(schema)

        def __call__(self, *args: object, **kwargs: object) -> object:
            return kernel(*args, **kwargs)

    return SimpleNamespace(_flash_attention_forward=SimpleNamespace(default=Overload()))


def _mask(num_rows: int, length: int, num_before: int | None) -> torch.Tensor:
    """Which keys each row sees: its own is `length - num_rows` further than its number."""
    own = torch.arange(length - num_rows, length).unsqueeze(1)
    keys = torch.arange(length)
    return (keys <= own) & (keys >= own - (length if num_before is None else num_before))


def _attended(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    attended = F.scaled_dot_product_attention(
        queries.transpose(0, 1),
        keys.transpose(0, 1),
        values.transpose(0, 1),
        attn_mask=mask,
        scale=scale,
        enable_gqa=True,
    )
    return attended.transpose(0, 1)
