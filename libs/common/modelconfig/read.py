"""From a checkpoint's config.json to a ModelConfig.

Every key must be understood: an unknown one may change the mathematics, so it is an error and never
skipped. A key whose value is null says "not used" and passes.
"""

from collections.abc import Callable, Mapping

from libs.common.modelconfig.config import ModelConfig
from libs.common.modelconfig.errors import ModelConfigError
from libs.common.modelconfig.falcon import read_falcon
from libs.common.modelconfig.fields import ConfigFields
from libs.common.modelconfig.gemma import read_gemma2
from libs.common.modelconfig.llama import read_llama, read_mistral, read_qwen2, read_qwen3
from libs.common.modelconfig.opt import read_opt

Reader = Callable[[ConfigFields], ModelConfig]

READERS: Mapping[str, Reader] = {
    "FalconForCausalLM": read_falcon,
    "Gemma2ForCausalLM": read_gemma2,
    "LlamaForCausalLM": read_llama,
    "MistralForCausalLM": read_mistral,
    "OPTForCausalLM": read_opt,
    "Qwen2ForCausalLM": read_qwen2,
    "Qwen3ForCausalLM": read_qwen3,
}

# Keys that do not change what an inference computes. End tokens are the manifest's.
_WITHOUT_EFFECT = frozenset(
    {
        *("_name_or_path", "_model_name_or_path", "architectures", "model_type"),
        *("dtype", "torch_dtype", "transformers_version", "transformers.js_config"),
        *("use_cache", "cache_implementation", "is_llama_config"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "prefix"),
        *("attention_dropout", "activation_dropout", "dropout", "hidden_dropout", "layerdrop"),
        *("initializer_range", "init_std"),
    }
)


def read_model_config(document: Mapping[str, object]) -> ModelConfig:
    """Raises ModelConfigError, naming the key."""
    fields = ConfigFields(document)
    if fields.has("quantization_config"):
        raise fields.error("quantization_config", "quantised weights are not supported")
    config = _reader(document)(fields)
    fields.require_all_read(_WITHOUT_EFFECT)
    return config


def _reader(document: Mapping[str, object]) -> Reader:
    names = document.get("architectures")
    if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str):
        if reader := READERS.get(names[0]):
            return reader
    known = ", ".join(READERS)
    raise ModelConfigError("architectures", f"{str(names)[:120]} is not supported, only {known}")
