"""Which tensors an architecture consists of, and how they are grouped into units.

A small table: one function per transformers class name. It reads the untrusted config.json and
returns the exact names and shapes that the checkpoint must have.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from libs.common.manifest import UnitKind
from libs.common.safetensors import DTYPE_SIZE_BYTES, TensorSpec
from libs.common.strict_json import JsonFieldError, JsonObject
from services.fetcher.errors import ImportRefused

_MAX_LAYERS = 1024
_MAX_WIDTH = 1 << 20
_MAX_VOCABULARY = 1 << 22
_MAX_CONTEXT = 1 << 24


@dataclass(frozen=True)
class PlannedUnit:
    kind: UnitKind
    layer_index: int | None
    tensors: tuple[TensorSpec, ...]  # in the order in which they shall lie


@dataclass(frozen=True)
class ModelPlan:
    architecture: str
    units: tuple[PlannedUnit, ...]
    vocab_size: int
    max_context_tokens: int
    kv_bytes_per_token: int
    ignored: re.Pattern[str]  # tensors of a checkpoint that nothing needs


Planner = Callable[[JsonObject, str], ModelPlan]


def plan_model(config: JsonObject, dtype: str) -> ModelPlan:
    """Raises ImportRefused for an unknown architecture or a config that cannot be."""
    architecture = architecture_of(config)
    planner = ARCHITECTURES.get(architecture)
    if planner is None:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ImportRefused(
            "unknown_architecture",
            f"config.json names the architecture {architecture}; known are: {known}",
        )
    if config.has("quantization_config"):
        raise ImportRefused(
            "quantized", "the checkpoint is quantized; save it as bfloat16, float16 or float32"
        )
    try:
        return planner(config, dtype)
    except JsonFieldError as exc:
        raise ImportRefused("bad_config", f"config.json: {exc}") from exc


def architecture_of(config: JsonObject) -> str:
    try:
        names = config.texts("architectures", max_items=1)
    except JsonFieldError as exc:
        raise ImportRefused("bad_config", f"config.json: {exc}") from exc
    if not names:
        raise ImportRefused("bad_config", "config.json: architectures is empty")
    return names[0]


def _plan_llama(config: JsonObject, dtype: str) -> ModelPlan:
    shape = LlamaShape.read(config)
    vocabulary, hidden = (shape.vocab_size, shape.hidden_size), (shape.hidden_size,)
    units = [_single(UnitKind.EMBEDDING, "model.embed_tokens.weight", vocabulary, dtype)]
    units += [
        PlannedUnit(UnitKind.LAYER, i, shape.layer(f"model.layers.{i}.", dtype))
        for i in range(shape.num_layers)
    ]
    units.append(_single(UnitKind.FINAL_NORM, "model.norm.weight", hidden, dtype))
    if not shape.is_tied:
        units.append(_single(UnitKind.LM_HEAD, "lm_head.weight", vocabulary, dtype))
    buffers = r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq|model\.rotary_emb\.inv_freq"
    return ModelPlan(
        architecture="LlamaForCausalLM",
        units=tuple(units),
        vocab_size=shape.vocab_size,
        max_context_tokens=shape.max_context_tokens,
        kv_bytes_per_token=2 * shape.num_layers * shape.kv_width * DTYPE_SIZE_BYTES[dtype],
        ignored=re.compile(buffers + (r"|lm_head\.weight" if shape.is_tied else "")),
    )


@dataclass(frozen=True)
class LlamaShape:
    hidden_size: int
    intermediate_size: int
    num_layers: int
    query_width: int  # number of heads times head size
    kv_width: int
    vocab_size: int
    max_context_tokens: int
    is_tied: bool
    has_attention_bias: bool
    has_mlp_bias: bool

    @classmethod
    def read(cls, config: JsonObject) -> "LlamaShape":
        hidden = config.integer("hidden_size", minimum=1, maximum=_MAX_WIDTH)
        num_heads = config.integer("num_attention_heads", minimum=1, maximum=_MAX_WIDTH)
        num_kv_heads = _optional_integer(config, "num_key_value_heads", num_heads)
        if num_heads % num_kv_heads:
            raise JsonFieldError("num_key_value_heads", f"a divisor of {num_heads}")
        head_size = _optional_integer(config, "head_dim", hidden // num_heads)
        config.number("rms_norm_eps", maximum=1.0)
        _check_activation(config)
        return cls(
            hidden_size=hidden,
            intermediate_size=config.integer("intermediate_size", minimum=1, maximum=_MAX_WIDTH),
            num_layers=config.integer("num_hidden_layers", minimum=1, maximum=_MAX_LAYERS),
            query_width=num_heads * head_size,
            kv_width=num_kv_heads * head_size,
            vocab_size=config.integer("vocab_size", minimum=1, maximum=_MAX_VOCABULARY),
            max_context_tokens=config.integer(
                "max_position_embeddings", minimum=1, maximum=_MAX_CONTEXT
            ),
            is_tied=_flag(config, "tie_word_embeddings"),
            has_attention_bias=_flag(config, "attention_bias"),
            has_mlp_bias=_flag(config, "mlp_bias"),
        )

    def layer(self, prefix: str, dtype: str) -> tuple[TensorSpec, ...]:
        """q, k, v side by side, then gate and up, so that fused views need no copy."""
        hidden, wide = self.hidden_size, self.intermediate_size
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        shapes: dict[str, tuple[int, ...]] = {
            prefix + "input_layernorm.weight": (hidden,),
            attention + "q_proj.weight": (self.query_width, hidden),
            attention + "k_proj.weight": (self.kv_width, hidden),
            attention + "v_proj.weight": (self.kv_width, hidden),
        }
        if self.has_attention_bias:
            shapes[attention + "q_proj.bias"] = (self.query_width,)
            shapes[attention + "k_proj.bias"] = (self.kv_width,)
            shapes[attention + "v_proj.bias"] = (self.kv_width,)
            shapes[attention + "o_proj.bias"] = (hidden,)
        shapes[attention + "o_proj.weight"] = (hidden, self.query_width)
        shapes[prefix + "post_attention_layernorm.weight"] = (hidden,)
        shapes[mlp + "gate_proj.weight"] = (wide, hidden)
        shapes[mlp + "up_proj.weight"] = (wide, hidden)
        if self.has_mlp_bias:
            shapes[mlp + "gate_proj.bias"] = (wide,)
            shapes[mlp + "up_proj.bias"] = (wide,)
            shapes[mlp + "down_proj.bias"] = (hidden,)
        shapes[mlp + "down_proj.weight"] = (hidden, wide)
        return tuple(TensorSpec(name, dtype, shape) for name, shape in shapes.items())


ARCHITECTURES: dict[str, Planner] = {"LlamaForCausalLM": _plan_llama}


def _single(kind: UnitKind, name: str, shape: tuple[int, ...], dtype: str) -> PlannedUnit:
    return PlannedUnit(kind, None, (TensorSpec(name, dtype, shape),))


def _optional_integer(config: JsonObject, key: str, default: int) -> int:
    if not config.has(key):
        return default
    return config.integer(key, minimum=1, maximum=_MAX_WIDTH)


def _flag(config: JsonObject, key: str) -> bool:
    return config.boolean(key) if config.has(key) else False


def _check_activation(config: JsonObject) -> None:
    if config.has("hidden_act") and config.text("hidden_act") != "silu":
        raise JsonFieldError("hidden_act", "silu, which is what this architecture computes")
