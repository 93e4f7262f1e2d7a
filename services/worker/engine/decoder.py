"""One decoder layer as a function of its weights.

Every rounding step is where transformers has it, so that bfloat16 results agree as far as the
kernels allow. Weights are read-only memory: nothing here writes to one.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from services.worker.engine.attention import Attention
from services.worker.engine.config import ModelConfig
from services.worker.engine.linear import linear
from services.worker.engine.rope import Rotation
from services.worker.engine.weights import UnitReader


@dataclass(frozen=True)
class LayerWeights:
    """Matrices are `[out, in]`; biases are None where the model has none."""

    input_norm: torch.Tensor  # [hidden]
    qkv: torch.Tensor  # [query + key + value, hidden]
    qkv_bias: torch.Tensor | None
    output: torch.Tensor  # [hidden, query]
    output_bias: torch.Tensor | None
    post_norm: torch.Tensor  # [hidden]
    gate_up: torch.Tensor  # [2 * intermediate, hidden]
    gate_up_bias: torch.Tensor | None
    down: torch.Tensor  # [hidden, intermediate]
    down_bias: torch.Tensor | None


@dataclass(frozen=True)
class StepContext:
    """What all layers of one step share."""

    rotation: Rotation
    slots: torch.Tensor  # [tokens] int64: where each token's keys and values go
    attention: Attention


def load_layer(reader: UnitReader, config: ModelConfig, layer_index: int) -> LayerWeights:
    """Raises TensorError."""
    prefix = f"model.layers.{layer_index}"
    hidden, inner = config.hidden_size, config.intermediate_size
    attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
    qkv = [f"{attention}.{name}_proj" for name in "qkv"]
    qkv_rows = (config.query_size, config.kv_size, config.kv_size)
    gate_up = [f"{mlp}.gate_proj", f"{mlp}.up_proj"]
    with_bias, mlp_bias = config.has_attention_bias, config.has_mlp_bias
    return LayerWeights(
        input_norm=reader.tensor(f"{prefix}.input_layernorm.weight", hidden),
        qkv=reader.stacked(_weights(qkv), qkv_rows, hidden),
        qkv_bias=reader.stacked(_biases(qkv), qkv_rows) if with_bias else None,
        output=reader.tensor(f"{attention}.o_proj.weight", hidden, config.query_size),
        output_bias=reader.tensor(f"{attention}.o_proj.bias", hidden) if with_bias else None,
        post_norm=reader.tensor(f"{prefix}.post_attention_layernorm.weight", hidden),
        gate_up=reader.stacked(_weights(gate_up), (inner, inner), hidden),
        gate_up_bias=reader.stacked(_biases(gate_up), (inner, inner)) if mlp_bias else None,
        down=reader.tensor(f"{mlp}.down_proj.weight", hidden, inner),
        down_bias=reader.tensor(f"{mlp}.down_proj.bias", hidden) if mlp_bias else None,
    )


def _weights(names: list[str]) -> list[str]:
    return [f"{name}.weight" for name in names]


def _biases(names: list[str]) -> list[str]:
    return [f"{name}.bias" for name in names]


def rms_norm(hidden: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Normalised in float32, rounded, then scaled: the order matters in 16-bit types."""
    return torch.rms_norm(hidden, weight.shape, None, eps).mul_(weight)


def decoder_layer(
    hidden: torch.Tensor,
    weights: LayerWeights,
    config: ModelConfig,
    context: StepContext,
    keys: torch.Tensor,
    values: torch.Tensor,
) -> torch.Tensor:
    """`[tokens, hidden]` in and out; writes the tokens' keys and values into the cache."""
    normed = rms_norm(hidden, weights.input_norm, config.norm_eps)
    attended = _self_attention(normed, weights, config, context, keys, values)
    hidden = hidden + linear(attended, weights.output, weights.output_bias)
    normed = rms_norm(hidden, weights.post_norm, config.norm_eps)
    gate, up = linear(normed, weights.gate_up, weights.gate_up_bias).chunk(2, -1)
    return hidden.add_(linear(F.silu(gate).mul_(up), weights.down, weights.down_bias))


def _self_attention(
    normed: torch.Tensor,
    weights: LayerWeights,
    config: ModelConfig,
    context: StepContext,
    keys: torch.Tensor,
    values: torch.Tensor,
) -> torch.Tensor:
    num_heads, num_kv_heads = config.num_heads, config.num_kv_heads
    qkv = linear(normed, weights.qkv, weights.qkv_bias)
    heads = qkv.view(-1, num_heads + 2 * num_kv_heads, config.head_dim)
    queries_keys = context.rotation.apply(heads[:, : num_heads + num_kv_heads])
    keys.index_copy_(0, context.slots, queries_keys[:, num_heads:])
    values.index_copy_(0, context.slots, heads[:, num_heads + num_kv_heads :])
    return context.attention(queries_keys[:, :num_heads], keys, values)
