"""What the decoder computes, read from a checkpoint's config.json. No torch here.

Every key must be understood: an unknown one may change the mathematics, so it is an error and never
skipped. A key whose value is null says "not used" and passes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from services.worker.engine.config_fields import ConfigFields
from services.worker.engine.errors import ConfigError

SUPPORTED_ARCHITECTURES = ("LlamaForCausalLM",)

# Keys that do not change what an inference computes.
_WITHOUT_EFFECT = frozenset(
    {
        *("_name_or_path", "_model_name_or_path", "architectures", "model_type"),
        *("dtype", "torch_dtype"),
        *("transformers.js_config", "transformers_version", "use_cache", "is_llama_config"),
        *("bos_token_id", "pad_token_id", "unk_token_id"),
        *("attention_dropout", "initializer_range"),
    }
)
# Keys that must have this value where they appear.
_ONLY_VALUES: Mapping[str, object] = {
    "hidden_act": "silu",
    "pretraining_tp": 1,
    "rope_interleaved": False,
}


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's stretch of the low rotary frequencies."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_tokens: int


@dataclass(frozen=True)
class RopeConfig:
    theta: float
    linear_factor: float = 1.0  # all positions are divided by it
    llama3: Llama3Scaling | None = None


@dataclass(frozen=True)
class ModelConfig:
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_context_tokens: int
    norm_eps: float
    rope: RopeConfig
    has_attention_bias: bool
    has_mlp_bias: bool
    has_tied_embeddings: bool
    eos_token_ids: frozenset[int]

    @property
    def query_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.num_kv_heads * self.head_dim


def parse_config(document: Mapping[str, object]) -> ModelConfig:
    """Read a config.json as transformers writes it. Raises ConfigError, naming the key."""
    _check_architecture(document)
    fields = ConfigFields(document)
    hidden_size, num_heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    config = ModelConfig(
        vocab_size=fields.size("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=fields.size("intermediate_size"),
        num_layers=fields.size("num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=fields.size("num_key_value_heads", num_heads),
        head_dim=fields.size("head_dim", hidden_size // num_heads),
        max_context_tokens=fields.size("max_position_embeddings", 2048),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        rope=_parse_rope(fields),
        has_attention_bias=fields.flag("attention_bias"),
        has_mlp_bias=fields.flag("mlp_bias"),
        has_tied_embeddings=fields.flag("tie_word_embeddings"),
        eos_token_ids=fields.token_ids("eos_token_id"),
    )
    _check_heads(config)
    for key, value in _ONLY_VALUES.items():
        fields.require_only(key, value)
    fields.require_all_read(_WITHOUT_EFFECT)
    return config


def _check_architecture(document: Mapping[str, object]) -> None:
    names = document.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or names[0] not in SUPPORTED_ARCHITECTURES:
        supported = ", ".join(SUPPORTED_ARCHITECTURES)
        raise ConfigError("architectures", f"{names!r} is not supported, only {supported}")


def _check_heads(config: ModelConfig) -> None:
    if config.num_heads % config.num_kv_heads:
        raise ConfigError(
            "num_key_value_heads",
            f"{config.num_kv_heads} does not divide num_attention_heads {config.num_heads}",
        )
    if config.head_dim % 2:
        raise ConfigError("head_dim", f"{config.head_dim} is odd, rotary embedding needs pairs")


def _parse_rope(fields: ConfigFields) -> RopeConfig:
    """Rotary settings, as transformers 5 nests them or as earlier versions spread them."""
    theta = fields.number("rope_theta", 10_000.0)
    nested = fields.section("rope_parameters") or fields.section("rope_scaling")
    if nested is None:
        return RopeConfig(theta)
    theta = nested.number("rope_theta", theta)
    kind = nested.text("rope_type", None) or nested.text("type", "default")
    nested.require_only("type", kind)
    nested.require_only("partial_rotary_factor", 1.0)
    rope = _rope_of_kind(kind, theta, nested)
    nested.require_all_read(frozenset())
    return rope


def _rope_of_kind(kind: str | None, theta: float, nested: ConfigFields) -> RopeConfig:
    if kind == "default":
        return RopeConfig(theta)
    if kind == "linear":
        return RopeConfig(theta, linear_factor=nested.number("factor"))
    if kind == "llama3":
        scaling = Llama3Scaling(
            factor=nested.number("factor"),
            low_freq_factor=nested.number("low_freq_factor"),
            high_freq_factor=nested.number("high_freq_factor"),
            original_max_tokens=nested.size("original_max_position_embeddings"),
        )
        return RopeConfig(theta, llama3=scaling)
    raise ConfigError(nested.path("rope_type"), f"{kind!r} is not supported")
