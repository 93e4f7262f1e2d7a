"""Gemma 2: scaled embedding, norms around each branch, capped scores and logits, two windows."""

from dataclasses import replace
from math import sqrt

from libs.common.modelconfig.config import (
    Activation,
    AttentionConfig,
    MlpConfig,
    ModelConfig,
    NormConfig,
    NormKind,
    NormPlacement,
)
from libs.common.modelconfig.fields import ConfigFields
from libs.common.modelconfig.names import TensorNames
from libs.common.modelconfig.rope import read_rope
from libs.common.modelconfig.shape import (
    FULL,
    SLIDING,
    layer_windows,
    plain_attention,
    read_max_context,
    read_num_layers,
    read_vocab_size,
    read_window,
)

_GELU_TANH = "gelu_pytorch_tanh"
_NAMES = TensorNames(
    attention_output_norm="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_output_norm="post_feedforward_layernorm",
)


def read_gemma2(fields: ConfigFields) -> ModelConfig:
    fields.require_only("hidden_activation", _GELU_TANH)
    fields.require_only("hidden_act", _GELU_TANH)  # published beside the other key, and unused
    fields.require_only("use_bidirectional_attention", False)
    hidden_size = fields.size("hidden_size")
    return ModelConfig(
        architecture="Gemma2ForCausalLM",
        vocab_size=read_vocab_size(fields),
        hidden_size=hidden_size,
        num_layers=read_num_layers(fields),
        max_context_tokens=read_max_context(fields),
        norm=NormConfig(
            fields.number("rms_norm_eps", 1e-6), NormKind.RMS_AROUND_ONE, NormPlacement.AROUND
        ),
        attention=_attention(fields),
        mlp=MlpConfig(fields.size("intermediate_size"), Activation.GELU_TANH),
        has_tied_embeddings=fields.flag("tie_word_embeddings", True),
        names=_NAMES,
        embedding_scale=sqrt(hidden_size),
        logit_cap=_cap(fields, "final_logit_softcapping", 30.0),
    )


def _attention(fields: ConfigFields) -> AttentionConfig:
    has_bias = fields.flag("attention_bias")
    plain = plain_attention(
        fields,
        read_rope(fields),
        num_kv_heads=fields.size("num_key_value_heads"),
        head_dim=fields.size("head_dim"),
        windows=_windows(fields),
    )
    return replace(
        plain,
        score_scale=1 / sqrt(fields.number("query_pre_attn_scalar", 256)),
        score_cap=_cap(fields, "attn_logit_softcapping", 50.0),
        has_qkv_bias=has_bias,
        has_output_bias=has_bias,
    )


def _windows(fields: ConfigFields) -> tuple[int | None, ...]:
    """Every other layer slides, the first one does."""
    window = read_window(fields)
    fields.require_only("sliding_window_size", window)  # an older name, published beside the other
    slides = window is not None
    types = [
        SLIDING if slides and index % 2 == 0 else FULL for index in range(read_num_layers(fields))
    ]
    return layer_windows(fields, window, types)


def _cap(fields: ConfigFields, key: str, default: float) -> float | None:
    return None if fields.is_null(key) else fields.number(key, default)
