"""Falcon: attention and MLP side by side, query, key and value in one matrix. Rotary ones only."""

from dataclasses import replace

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
    check_heads_share_hidden,
    plain_attention,
    read_max_context,
    read_num_layers,
    read_vocab_size,
)

_NAMES = TensorNames(
    embedding="transformer.word_embeddings",
    layer="transformer.h.{}.",
    fused="self_attention.query_key_value",
    output="self_attention.dense",
    up="mlp.dense_h_to_4h",
    down="mlp.dense_4h_to_h",
    final_norm="transformer.ln_f",
)
_NAMES_APART = replace(_NAMES, attention_norm="ln_attn", mlp_norm="ln_mlp")


def read_falcon(fields: ConfigFields) -> ModelConfig:
    if fields.flag("alibi"):
        raise fields.error("alibi", "ALiBi positions are not supported, only rotary ones")
    fields.require_only("activation", "gelu")
    fields.skip("auto_map")  # code from before transformers knew Falcon; none of it runs here
    fields.require_only("apply_residual_connection_post_layernorm", False)
    hidden_size, has_bias = fields.size("hidden_size"), fields.flag("bias")
    placement = _placement(fields)
    return ModelConfig(
        architecture="FalconForCausalLM",
        vocab_size=read_vocab_size(fields),
        hidden_size=hidden_size,
        num_layers=read_num_layers(fields),
        max_context_tokens=read_max_context(fields, 2048),
        norm=NormConfig(fields.number("layer_norm_epsilon", 1e-5), NormKind.LAYER, placement),
        attention=_attention(fields, has_bias),
        mlp=MlpConfig(
            fields.size("ffn_hidden_size", 4 * hidden_size),
            Activation.GELU,
            is_gated=False,
            has_bias=has_bias,
        ),
        has_tied_embeddings=fields.flag("tie_word_embeddings", True),
        names=_NAMES_APART if placement is NormPlacement.PARALLEL_APART else _NAMES,
    )


def _placement(fields: ConfigFields) -> NormPlacement:
    """The new decoder is parallel with two norms or one; the old one parallel with one, or not."""
    is_new = fields.flag("new_decoder_architecture")
    most_norms = 2 if is_new else 1
    num_norms = fields.size("num_ln_in_parallel_attn", most_norms)
    if num_norms > most_norms:
        raise fields.error("num_ln_in_parallel_attn", f"{num_norms} is not supported here")
    if not fields.flag("parallel_attn", True):
        if is_new:
            raise fields.error("parallel_attn", "False is not supported in the new decoder")
        return NormPlacement.BEFORE
    return NormPlacement.PARALLEL_APART if num_norms == 2 else NormPlacement.PARALLEL


def _attention(fields: ConfigFields, has_bias: bool) -> AttentionConfig:
    check_heads_share_hidden(fields)
    num_kv_heads = _num_kv_heads(fields)
    # Newer versions of transformers write the effective number beside what it follows from.
    fields.require_only("num_key_value_heads", num_kv_heads)
    plain = plain_attention(fields, read_rope(fields), num_kv_heads=num_kv_heads)
    return replace(plain, is_fused=True, has_qkv_bias=has_bias, has_output_bias=has_bias)


def _num_kv_heads(fields: ConfigFields) -> int:
    """Only the new decoder has a number of its own: the old one has one for all or one each."""
    num_heads, is_multi_query = fields.size("num_attention_heads"), fields.flag("multi_query", True)
    given = fields.size("num_kv_heads", num_heads)
    if fields.flag("new_decoder_architecture"):
        if num_heads % given:
            raise fields.error("num_kv_heads", f"{given} is no divisor of {num_heads} heads")
        return given
    if is_multi_query:
        return 1
    if given != num_heads:
        raise fields.error("num_kv_heads", f"{given} is not supported here, only {num_heads}")
    return num_heads
