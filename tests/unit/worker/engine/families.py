"""Tiny random models of every family, at least two of different shape each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.unit.worker.engine.tiny import LLAMA3_ROPE, MAX_CONTEXT, roughen

_DEFAULT_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_COMMON = {
    "vocab_size": 131,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": MAX_CONTEXT,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
_LLAMA_LIKE = _COMMON | {
    "intermediate_size": 80,
    "num_key_value_heads": 2,
    "rope_parameters": _DEFAULT_ROPE,
}
_GEMMA = _LLAMA_LIKE | {"head_dim": 16, "num_hidden_layers": 4, "sliding_window": 9}
_OPT = _COMMON | {"ffn_dim": 80}
_FALCON = _COMMON | {"rope_parameters": _DEFAULT_ROPE, "ffn_hidden_size": 80}


@dataclass(frozen=True, eq=False)
class Family:
    name: str
    config: Callable[..., object]
    model: Callable[..., PreTrainedModel]
    common: Mapping[str, object]
    shapes: Mapping[str, Mapping[str, object]]

    def build(self, shape: str, spread: float = 0.2) -> PreTrainedModel:
        """Float32, random; weights spread wide, so that attention looks at single tokens."""
        torch.manual_seed(11)
        of_spread = {"init_std" if self.name == "opt" else "initializer_range": spread}
        model = self.model(self.config(**{**self.common, **of_spread, **self.shapes[shape]}))
        roughen(model)
        return model


FAMILIES = (
    Family(
        "llama",
        LlamaConfig,
        LlamaForCausalLM,
        _LLAMA_LIKE,
        {
            "llama 2": {"num_key_value_heads": 4},
            "llama 3.1": {"rope_parameters": LLAMA3_ROPE, "head_dim": 8},
            "smollm2": {"tie_word_embeddings": True, "hidden_size": 72, "num_attention_heads": 9}
            | {"num_key_value_heads": 3},
            "yi": {"num_key_value_heads": 1, "rope_parameters": _DEFAULT_ROPE},
            "biases": {"attention_bias": True, "mlp_bias": True},
        },
    ),
    Family(
        "mistral",
        MistralConfig,
        MistralForCausalLM,
        _LLAMA_LIKE,
        {
            "short window": {"sliding_window": 7},
            "long window": {"sliding_window": 40, "head_dim": 20, "num_key_value_heads": 1},
            "no window": {"sliding_window": None, "num_hidden_layers": 2},
        },
    ),
    Family(
        "qwen2",
        Qwen2Config,
        Qwen2ForCausalLM,
        _LLAMA_LIKE,
        {
            "grouped": {},
            "tied": {"tie_word_embeddings": True, "num_key_value_heads": 1, "hidden_size": 64},
            "upper layers slide": {
                "use_sliding_window": True,
                "sliding_window": 8,
                "max_window_layers": 1,
            },
        },
    ),
    Family(
        "qwen3",
        Qwen3Config,
        Qwen3ForCausalLM,
        _LLAMA_LIKE | {"head_dim": 16},
        {
            "grouped": {},
            "tied": {"tie_word_embeddings": True, "head_dim": 8, "num_key_value_heads": 1},
            "biases": {"attention_bias": True, "num_key_value_heads": 4, "hidden_size": 40},
        },
    ),
    Family(
        "opt",
        OPTConfig,
        OPTForCausalLM,
        _OPT,
        {
            "125m": {},
            "350m": {"do_layer_norm_before": False, "word_embed_proj_dim": 32},
            "norms behind, no projection": {"do_layer_norm_before": False, "ffn_dim": 56},
            "untied, no biases": {"tie_word_embeddings": False, "enable_bias": False}
            | {"num_attention_heads": 3, "word_embed_proj_dim": 20},
            "no final norm": {"_remove_final_layer_norm": True, "num_hidden_layers": 2},
        },
    ),
    Family(
        "falcon",
        FalconConfig,
        FalconForCausalLM,
        _FALCON,
        {
            "7b": {},
            "40b": {"new_decoder_architecture": True, "num_kv_heads": 2},
            "11b": {"new_decoder_architecture": True, "num_kv_heads": 2}
            | {"num_ln_in_parallel_attn": 1, "num_attention_heads": 6},
            "one after the other, biases": {"parallel_attn": False, "bias": True},
            "multi-head": {"multi_query": False, "tie_word_embeddings": False},
        },
    ),
    Family(
        "gemma2",
        Gemma2Config,
        Gemma2ForCausalLM,
        _GEMMA,
        {
            "alternating windows": {"query_pre_attn_scalar": 24},
            "tight caps": {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}
            | {"num_key_value_heads": 1, "hidden_size": 36, "sliding_window": 30},
            "no caps": {"attn_logit_softcapping": None, "final_logit_softcapping": None}
            | {"num_key_value_heads": 4, "attention_bias": True, "num_hidden_layers": 3},
        },
    ),
)
CASES = tuple((family, shape) for family in FAMILIES for shape in family.shapes)
