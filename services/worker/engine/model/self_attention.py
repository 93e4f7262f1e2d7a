"""The attention branch of a layer: projections, head norms, rotation, cache, scores."""

from dataclasses import dataclass

import torch

from libs.common.modelconfig.config import AttentionConfig, ModelConfig
from libs.common.modelconfig.parts import LayerTensors
from services.worker.engine.attention.context import StepContext
from services.worker.engine.model.linear import Linear, load_linear
from services.worker.engine.model.norm import RmsNorm
from services.worker.engine.model.weights import UnitReader


@dataclass(frozen=True)
class SelfAttention:
    config: AttentionConfig
    window: int | None
    qkv: Linear  # [query + key + value, hidden]
    head_norms: RmsNorm | None  # of queries and keys, one row of weights for each head
    output: Linear  # [hidden, query]

    def __call__(
        self,
        normed: torch.Tensor,
        context: StepContext,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> torch.Tensor:
        """`[tokens, hidden]` in and, as a new tensor, out; writes the tokens' cache slots."""
        num_heads, num_kv_heads = self.config.num_heads, self.config.num_kv_heads
        heads = self._heads(self.qkv(normed))
        queries_keys = heads[:, : num_heads + num_kv_heads]
        if self.head_norms is not None:
            queries_keys = self.head_norms(queries_keys)
        if context.rotation is not None:
            queries_keys = context.rotation.apply(queries_keys)
        keys.index_copy_(0, context.slots, queries_keys[:, num_heads:])
        values.index_copy_(0, context.slots, heads[:, num_heads + num_kv_heads :])
        attend = context.attention[self.window]
        return self.output(attend(queries_keys[:, :num_heads], keys, values))

    def _heads(self, qkv: torch.Tensor) -> torch.Tensor:
        """`[tokens, heads, head_dim]`: all queries, then all keys, then all values."""
        num_kv_heads = self.config.num_kv_heads
        heads = qkv.view(-1, self.config.num_heads + 2 * num_kv_heads, self.config.head_dim)
        if not self.config.is_fused or num_kv_heads == 1:
            return heads
        # For each key head: the queries that it serves, the key, its value.
        groups = heads.view(len(heads), num_kv_heads, -1, self.config.head_dim)
        return torch.cat((groups[:, :, :-2].flatten(1, 2), groups[:, :, -2], groups[:, :, -1]), 1)


def load_self_attention(
    reader: UnitReader, tensors: LayerTensors, config: ModelConfig, layer_index: int
) -> SelfAttention:
    """Raises TensorError."""
    return SelfAttention(
        config=config.attention,
        window=config.attention.windows[layer_index],
        qkv=load_linear(reader, *tensors.qkv),
        head_norms=_load_head_norms(reader, tensors, config),
        output=load_linear(reader, tensors.output),
    )


def _load_head_norms(
    reader: UnitReader, tensors: LayerTensors, config: ModelConfig
) -> RmsNorm | None:
    if tensors.query_norm is None or tensors.key_norm is None:
        return None
    queries = reader.weight(tensors.query_norm.weight).expand(config.num_heads, -1)
    keys = reader.weight(tensors.key_norm.weight).expand(config.num_kv_heads, -1)
    return RmsNorm(torch.cat((queries, keys)), config.norm.eps)
