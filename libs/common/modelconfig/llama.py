"""Llama and what is built like it: RMS norms, rotary positions, a gated MLP."""

from dataclasses import replace

from libs.common.modelconfig.config import (
    AttentionConfig,
    MlpConfig,
    ModelConfig,
    NormConfig,
)
from libs.common.modelconfig.fields import ConfigFields
from libs.common.modelconfig.names import TensorNames
from libs.common.modelconfig.rope import read_rope
from libs.common.modelconfig.shape import (
    FULL,
    SLIDING,
    layer_windows,
    optional_size,
    plain_attention,
    read_max_context,
    read_num_layers,
    read_vocab_size,
    read_window,
)


def read_llama(fields: ConfigFields) -> ModelConfig:
    """Also SmolLM2, TinyLlama, Yi: they are Llamas by their own word."""
    fields.require_only("pretraining_tp", 1)
    fields.require_only("rope_interleaved", False)
    has_bias = fields.flag("attention_bias")
    attention = replace(
        plain_attention(
            fields,
            read_rope(fields),
            num_kv_heads=optional_size(fields, "num_key_value_heads"),
            head_dim=optional_size(fields, "head_dim"),
        ),
        has_qkv_bias=has_bias,
        has_output_bias=has_bias,
    )
    mlp = MlpConfig(fields.size("intermediate_size"), has_bias=fields.flag("mlp_bias"))
    return _decoder(fields, "LlamaForCausalLM", attention, mlp, default_context_tokens=2048)


def read_mistral(fields: ConfigFields) -> ModelConfig:
    """All layers slide, or none does."""
    attention = plain_attention(
        fields,
        read_rope(fields),
        num_kv_heads=fields.size("num_key_value_heads"),
        head_dim=optional_size(fields, "head_dim"),
        windows=(read_window(fields),) * read_num_layers(fields),
    )
    mlp = MlpConfig(fields.size("intermediate_size"))
    return _decoder(fields, "MistralForCausalLM", attention, mlp)


def read_qwen2(fields: ConfigFields) -> ModelConfig:
    """Queries, keys and values have a bias, the output has none."""
    attention = replace(_qwen_attention(fields), has_qkv_bias=True)
    mlp = MlpConfig(fields.size("intermediate_size"))
    return _decoder(fields, "Qwen2ForCausalLM", attention, mlp)


def read_qwen3(fields: ConfigFields) -> ModelConfig:
    """Queries and keys are normalised head by head; the head's size is always given."""
    fields.size("head_dim")
    has_bias = fields.flag("attention_bias")
    attention = replace(
        _qwen_attention(fields),
        has_head_norms=True,
        has_qkv_bias=has_bias,
        has_output_bias=has_bias,
    )
    mlp = MlpConfig(fields.size("intermediate_size"))
    return _decoder(fields, "Qwen3ForCausalLM", attention, mlp)


def _qwen_attention(fields: ConfigFields) -> AttentionConfig:
    return plain_attention(
        fields,
        read_rope(fields),
        num_kv_heads=fields.size("num_key_value_heads"),
        head_dim=optional_size(fields, "head_dim"),
        windows=_qwen_windows(fields),
    )


def _qwen_windows(fields: ConfigFields) -> tuple[int | None, ...]:
    """The layers from max_window_layers on slide, where windows are used at all."""
    num_layers = read_num_layers(fields)
    if not fields.flag("use_sliding_window"):
        fields.skip("sliding_window", "max_window_layers")
        return layer_windows(fields, None, [FULL] * num_layers)
    first, window = fields.count("max_window_layers", 28), read_window(fields)
    is_sliding = [window is not None and index >= first for index in range(num_layers)]
    return layer_windows(fields, window, [SLIDING if slides else FULL for slides in is_sliding])


def _decoder(
    fields: ConfigFields,
    architecture: str,
    attention: AttentionConfig,
    mlp: MlpConfig,
    *,
    default_context_tokens: int | None = None,
) -> ModelConfig:
    fields.require_only("hidden_act", "silu")
    return ModelConfig(
        architecture=architecture,
        vocab_size=read_vocab_size(fields),
        hidden_size=fields.size("hidden_size"),
        num_layers=read_num_layers(fields),
        max_context_tokens=read_max_context(fields, default_context_tokens),
        norm=NormConfig(fields.number("rms_norm_eps", 1e-6)),
        attention=attention,
        mlp=mlp,
        has_tied_embeddings=fields.flag("tie_word_embeddings"),
        names=TensorNames(),
    )
