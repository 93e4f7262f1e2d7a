"""config.json of well-known checkpoints as their authors publish them, and their parameters."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    name: str
    num_parameters: int  # as counted where they are published
    config: Mapping[str, object]


def _llama(**config: object) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.31.0.dev0",
        "use_cache": True,
        "vocab_size": 32000,
    } | config


def _qwen(**config: object) -> dict[str, object]:
    return {
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.43.1",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": 151936,
    } | config


def _opt(**config: object) -> dict[str, object]:
    return {
        "activation_dropout": 0.0,
        "activation_function": "relu",
        "architectures": ["OPTForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 2,
        "dropout": 0.1,
        "eos_token_id": 2,
        "init_std": 0.02,
        "layerdrop": 0.0,
        "max_position_embeddings": 2048,
        "model_type": "opt",
        "pad_token_id": 1,
        "prefix": "</s>",
        "torch_dtype": "float16",
        "transformers_version": "4.21.0.dev0",
        "use_cache": True,
        "vocab_size": 50272,
    } | config


def _falcon(**config: object) -> dict[str, object]:
    return {
        "alibi": False,
        "apply_residual_connection_post_layernorm": False,
        "architectures": ["FalconForCausalLM"],
        "attention_dropout": 0.0,
        "auto_map": {"AutoModelForCausalLM": "modeling_falcon.FalconForCausalLM"},
        "bias": False,
        "bos_token_id": 11,
        "eos_token_id": 11,
        "hidden_dropout": 0.0,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "model_type": "falcon",
        "multi_query": True,
        "parallel_attn": True,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.27.4",
        "use_cache": True,
        "vocab_size": 65024,
    } | config


PUBLISHED = (
    Published(
        "Llama-2-7b",
        6_738_415_616,
        _llama(
            hidden_size=4096,
            intermediate_size=11008,
            max_position_embeddings=4096,
            num_attention_heads=32,
            num_hidden_layers=32,
            num_key_value_heads=32,
        ),
    ),
    Published(
        "Llama-3.1-8B",
        8_030_261_248,
        _llama(
            attention_bias=False,
            attention_dropout=0.0,
            bos_token_id=128000,
            eos_token_id=[128001, 128008, 128009],
            hidden_size=4096,
            intermediate_size=14336,
            max_position_embeddings=131072,
            mlp_bias=False,
            num_attention_heads=32,
            num_hidden_layers=32,
            num_key_value_heads=8,
            rope_scaling={
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
                "rope_type": "llama3",
            },
            rope_theta=500000.0,
            vocab_size=128256,
        ),
    ),
    Published(
        "TinyLlama-1.1B",
        1_100_048_384,
        _llama(
            hidden_size=2048,
            intermediate_size=5632,
            max_position_embeddings=2048,
            num_attention_heads=32,
            num_hidden_layers=22,
            num_key_value_heads=4,
        ),
    ),
    Published(
        "Yi-6B",
        6_061_035_520,
        _llama(
            hidden_size=4096,
            intermediate_size=11008,
            max_position_embeddings=4096,
            num_attention_heads=32,
            num_hidden_layers=32,
            num_key_value_heads=4,
            pad_token_id=0,
            rope_theta=5000000.0,
            vocab_size=64000,
        ),
    ),
    Published(
        "SmolLM2-135M",
        134_515_008,
        _llama(
            attention_bias=False,
            hidden_size=576,
            intermediate_size=1536,
            is_llama_config=True,
            max_position_embeddings=8192,
            num_attention_heads=9,
            num_hidden_layers=30,
            num_key_value_heads=3,
            rope_interleaved=False,
            rope_theta=100000,
            tie_word_embeddings=True,
            vocab_size=49152,
        ),
    ),
    Published(
        "Mistral-7B-v0.1",
        7_241_732_096,
        {
            "architectures": ["MistralForCausalLM"],
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "hidden_size": 4096,
            "initializer_range": 0.02,
            "intermediate_size": 14336,
            "max_position_embeddings": 32768,
            "model_type": "mistral",
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-05,
            "rope_theta": 10000.0,
            "sliding_window": 4096,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.34.0.dev0",
            "use_cache": True,
            "vocab_size": 32000,
        },
    ),
    Published(
        "Qwen2.5-0.5B",
        494_032_768,
        _qwen(
            architectures=["Qwen2ForCausalLM"],
            hidden_size=896,
            intermediate_size=4864,
            max_window_layers=21,
            model_type="qwen2",
            num_attention_heads=14,
            num_hidden_layers=24,
            num_key_value_heads=2,
            sliding_window=32768,
        ),
    ),
    Published(
        "Qwen3-0.6B",
        596_049_920,
        _qwen(
            architectures=["Qwen3ForCausalLM"],
            attention_bias=False,
            head_dim=128,
            hidden_size=1024,
            intermediate_size=3072,
            max_position_embeddings=40960,
            max_window_layers=28,
            model_type="qwen3",
            num_attention_heads=16,
            num_hidden_layers=28,
            num_key_value_heads=8,
            rope_scaling=None,
            sliding_window=None,
        ),
    ),
    Published(
        "opt-125m",
        125_239_296,
        _opt(
            _remove_final_layer_norm=False,
            do_layer_norm_before=True,
            ffn_dim=3072,
            hidden_size=768,
            num_attention_heads=12,
            num_hidden_layers=12,
            word_embed_proj_dim=768,
        ),
    ),
    Published(
        "opt-350m",
        331_196_416,
        _opt(
            do_layer_norm_before=False,
            ffn_dim=4096,
            hidden_size=1024,
            num_attention_heads=16,
            num_hidden_layers=24,
            word_embed_proj_dim=512,
        ),
    ),
    Published(
        "falcon-7b",
        6_921_720_704,
        _falcon(
            hidden_size=4544,
            new_decoder_architecture=False,
            num_attention_heads=71,
            num_hidden_layers=32,
        ),
    ),
    Published(
        "falcon-40b",
        41_303_293_952,
        _falcon(
            hidden_size=8192,
            new_decoder_architecture=True,
            num_attention_heads=128,
            num_hidden_layers=60,
            num_kv_heads=8,
        ),
    ),
    Published(
        "gemma-2-2b",
        2_614_341_888,
        {
            "architectures": ["Gemma2ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "attn_logit_softcapping": 50.0,
            "bos_token_id": 2,
            "cache_implementation": "hybrid",
            "eos_token_id": [1, 107],
            "final_logit_softcapping": 30.0,
            "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": 2304,
            "initializer_range": 0.02,
            "intermediate_size": 9216,
            "max_position_embeddings": 8192,
            "model_type": "gemma2",
            "num_attention_heads": 8,
            "num_hidden_layers": 26,
            "num_key_value_heads": 4,
            "pad_token_id": 0,
            "query_pre_attn_scalar": 256,
            "rms_norm_eps": 1e-06,
            "rope_theta": 10000.0,
            "sliding_window": 4096,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.42.4",
            "use_cache": True,
            "vocab_size": 256000,
        },
    ),
)


def config_of(name: str) -> Mapping[str, object]:
    return next(model.config for model in PUBLISHED if model.name == name)
