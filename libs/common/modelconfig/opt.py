"""OPT: learned positions, layer norms, biases everywhere; the 350M one projects its embedding."""

from dataclasses import replace

from libs.common.modelconfig.config import (
    Activation,
    MlpConfig,
    ModelConfig,
    NormConfig,
    NormKind,
    NormPlacement,
)
from libs.common.modelconfig.fields import ConfigFields
from libs.common.modelconfig.names import TensorNames
from libs.common.modelconfig.shape import (
    check_heads_share_hidden,
    plain_attention,
    read_max_context,
    read_num_layers,
    read_vocab_size,
)

_NORM_EPS = 1e-5  # torch's default, which no key changes
_NAMES = TensorNames(
    embedding="model.decoder.embed_tokens",
    positions="model.decoder.embed_positions",
    embedding_projection="model.decoder.project_in",
    layer="model.decoder.layers.{}.",
    attention_norm="self_attn_layer_norm",  # in front of attention or behind it
    attention_output_norm="self_attn_layer_norm",
    output="self_attn.out_proj",
    mlp_norm="final_layer_norm",
    mlp_output_norm="final_layer_norm",
    up="fc1",
    down="fc2",
    final_norm="model.decoder.final_layer_norm",
    final_projection="model.decoder.project_out",
)


def read_opt(fields: ConfigFields) -> ModelConfig:
    fields.require_only("activation_function", "relu")
    fields.require_only("layer_norm_elementwise_affine", True)
    has_bias, hidden_size = fields.flag("enable_bias", True), fields.size("hidden_size")
    is_before = fields.flag("do_layer_norm_before", True)
    placement = NormPlacement.BEFORE if is_before else NormPlacement.AFTER
    embedding_size = fields.size("word_embed_proj_dim", hidden_size)
    check_heads_share_hidden(fields)
    attention = plain_attention(fields, rope=None)
    return ModelConfig(
        architecture="OPTForCausalLM",
        vocab_size=read_vocab_size(fields),
        hidden_size=hidden_size,
        num_layers=read_num_layers(fields),
        max_context_tokens=read_max_context(fields),
        norm=NormConfig(_NORM_EPS, NormKind.LAYER, placement),
        attention=replace(attention, has_qkv_bias=has_bias, has_output_bias=has_bias),
        mlp=MlpConfig(fields.size("ffn_dim"), Activation.RELU, is_gated=False, has_bias=has_bias),
        has_tied_embeddings=fields.flag("tie_word_embeddings", True),
        names=_NAMES,
        embedding_size=None if embedding_size == hidden_size else embedding_size,
        has_final_norm=not fields.flag("_remove_final_layer_norm") and is_before,
    )
