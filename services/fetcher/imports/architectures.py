"""How a model's tensors are grouped into units, planned from its untrusted config.json.

What a family computes, and so which tensors with which shapes it must have, is read where the
engine reads it; a configuration that the engine does not run is refused here, at the door.
"""

import re
from dataclasses import dataclass

from libs.common.modelconfig.config import ModelConfig
from libs.common.modelconfig.errors import ModelConfigError
from libs.common.modelconfig.parts import Weight
from libs.common.modelconfig.read import READERS, read_model_config
from libs.common.modelconfig.tensors import embedding_tensors, head_tensors, layer_tensors
from libs.common.strict_json import JsonFieldError, JsonObject
from libs.common.weights.manifest import UnitKind
from libs.common.weights.safetensors import DTYPE_SIZE_BYTES, TensorSpec
from services.fetcher.errors import ImportRefused

CONFIG_NAME = "config.json"
# Old checkpoints hold their rotary frequencies, which follow from the configuration.
_BUFFERS = r"[\w.]*\.rotary_emb\.inv_freq"


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


def plan_model(config: JsonObject, dtype: str, config_name: str = CONFIG_NAME) -> ModelPlan:
    """Raises ImportRefused for an unknown architecture or a config that cannot be.

    `config_name` says where the user finds what the config says.
    """
    model = _read(config, config_name)
    return ModelPlan(
        architecture=model.architecture,
        units=tuple(_units(model, dtype)),
        vocab_size=model.vocab_size,
        max_context_tokens=model.max_context_tokens,
        kv_bytes_per_token=2 * model.num_layers * model.kv_size * DTYPE_SIZE_BYTES[dtype],
        ignored=_ignored(model),
    )


def architecture_of(config: JsonObject, config_name: str = CONFIG_NAME) -> str:
    try:
        names = config.texts("architectures", max_items=1)
    except JsonFieldError as exc:
        raise ImportRefused("bad_config", f"{config_name}: {exc}") from exc
    if not names:
        raise ImportRefused("bad_config", f"{config_name}: architectures is empty")
    return names[0]


def _read(config: JsonObject, config_name: str) -> ModelConfig:
    architecture = architecture_of(config, config_name)
    if architecture not in READERS:
        raise ImportRefused(
            "unknown_architecture",
            f"{config_name} names the architecture {architecture[:120]}; known are: "
            f"{', '.join(READERS)}",
        )
    if config.has("quantization_config"):
        raise ImportRefused(
            "quantized",
            f"{config_name} has a quantization_config; save the model as bfloat16, float16 or "
            "float32",
        )
    try:
        return read_model_config(config.values)
    except ModelConfigError as exc:
        raise ImportRefused("bad_config", f"{config_name}: {exc}") from exc


def _units(model: ModelConfig, dtype: str) -> list[PlannedUnit]:
    """Embedding, layers in order, final norm, and the head's matrix where it is its own."""
    head = head_tensors(model)
    units = [_unit(UnitKind.EMBEDDING, embedding_tensors(model).weights(), dtype)]
    units += [
        _unit(UnitKind.LAYER, layer_tensors(model, index).weights(), dtype, index)
        for index in range(model.num_layers)
    ]
    units.append(_unit(UnitKind.FINAL_NORM, head.final_weights(), dtype))
    if head.matrix is not None:
        units.append(_unit(UnitKind.LM_HEAD, (head.matrix,), dtype))
    return units


def _unit(
    kind: UnitKind, weights: tuple[Weight, ...], dtype: str, layer_index: int | None = None
) -> PlannedUnit:
    tensors = tuple(TensorSpec(weight.name, dtype, weight.shape) for weight in weights)
    return PlannedUnit(kind, layer_index, tensors)


def _ignored(model: ModelConfig) -> re.Pattern[str]:
    patterns = [_BUFFERS] if model.attention.rope else []
    if model.has_tied_embeddings:
        patterns.append(re.escape(f"{model.names.head}.weight"))
    return re.compile("|".join(patterns) or r"(?!)")
