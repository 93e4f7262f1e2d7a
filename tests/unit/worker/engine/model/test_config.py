import pytest
from transformers import LlamaConfig

from libs.common.modelconfig.config import Llama3Scaling, RopeConfig
from services.worker.engine.errors import ConfigError
from services.worker.engine.model.config import parse_config

SMOLLM2: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 576,
    "initializer_range": 0.041666666666666664,
    "intermediate_size": 1536,
    "is_llama_config": True,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "pad_token_id": 2,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_interleaved": False,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.42.3",
    "use_cache": True,
    "vocab_size": 49152,
}

LLAMA31_ROPE = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}


def test_a_published_config_is_understood() -> None:
    config = parse_config(SMOLLM2)

    assert (config.num_layers, config.hidden_size, config.vocab_size) == (30, 576, 49152)
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (9, 3, 64)
    assert config.attention.rope == RopeConfig(theta=100_000.0)
    assert config.has_tied_embeddings


def test_rope_settings_are_read_in_the_old_and_in_the_new_form() -> None:
    old = parse_config(SMOLLM2 | {"rope_theta": 5e5, "rope_scaling": LLAMA31_ROPE})
    new_form = SMOLLM2 | {"rope_parameters": LLAMA31_ROPE | {"rope_theta": 5e5}}
    del new_form["rope_theta"]

    expected = RopeConfig(5e5, llama3=Llama3Scaling(8.0, 1.0, 4.0, 8192))
    assert old.attention.rope == expected
    assert parse_config(new_form).attention.rope == expected


def test_what_transformers_writes_today_is_understood() -> None:
    written = LlamaConfig(architectures=["LlamaForCausalLM"]).to_dict()
    relevant = {key: written[key] for key in LlamaConfig().to_diff_dict() if key in written}

    config = parse_config(relevant | {"architectures": ["LlamaForCausalLM"], **_sizes(written)})

    assert config.num_kv_heads == config.num_heads == 32
    assert config.norm.eps == 1e-6


REFUSED = (
    ({"architectures": ["MambaForCausalLM"]}, "architectures", "another architecture"),
    ({"architectures": None}, "architectures", "no architecture"),
    ({"hidden_size": None}, "hidden_size", "a missing size"),
    ({"hidden_size": "576"}, "hidden_size", "a text for a number"),
    ({"num_hidden_layers": 0}, "num_hidden_layers", "no layers"),
    ({"num_key_value_heads": 2}, "num_key_value_heads", "2 does not divide 9"),
    ({"head_dim": 63}, "head_dim", "an odd head"),
    ({"hidden_act": "gelu"}, "hidden_act", "another activation"),
    ({"pretraining_tp": 2}, "pretraining_tp", "sliced matrices"),
    ({"rope_interleaved": True}, "rope_interleaved", "other pairs"),
    ({"sliding_window": 4096}, "sliding_window", "a key that Llama does not know"),
    ({"quantization_config": {"bits": 4}}, "quantization_config", "quantised weights"),
    ({"rms_norm_eps": float("nan")}, "rms_norm_eps", "not a number"),
    ({"tie_word_embeddings": 1}, "tie_word_embeddings", "a number for a flag"),
    ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type", "unknown rope"),
    ({"rope_scaling": {"rope_type": "linear"}}, "rope_scaling.factor", "no factor"),
    ({"rope_scaling": LLAMA31_ROPE | {"beta": 1}}, "rope_scaling.beta", "unknown rope key"),
    ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor", "part"),
)


@pytest.mark.parametrize(
    ("changes", "key"),
    [(changes, key) for changes, key, _ in REFUSED],
    ids=[reason for _, _, reason in REFUSED],
)
def test_what_is_not_understood_is_an_error_that_names_the_key(
    changes: dict[str, object], key: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(SMOLLM2 | changes)

    assert key in refused.value.key


def test_an_unknown_key_with_a_null_says_not_used() -> None:
    assert parse_config(SMOLLM2 | {"sliding_window": None}) == parse_config(SMOLLM2)


def _sizes(written: dict[str, object]) -> dict[str, object]:
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return {name: written[name] for name in (*names, "vocab_size")}
