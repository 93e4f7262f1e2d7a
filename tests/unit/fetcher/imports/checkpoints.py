"""Tiny Llama checkpoints on disk, whole or spoiled on purpose."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libs.common.weights.safetensors import DTYPE_SIZE_BYTES, TensorSpec
from tests.unit.common.weights.builders import random_bytes

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def llama_shapes(num_layers: int = 2, *, is_tied: bool = True) -> dict[str, tuple[int, ...]]:
    """Names and shapes as transformers saves them, written down apart from the importer's table."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (100, 64)}
    for i in range(num_layers):
        shapes |= {
            f"model.layers.{i}.input_layernorm.weight": (64,),
            f"model.layers.{i}.mlp.down_proj.weight": (64, 96),
            f"model.layers.{i}.mlp.gate_proj.weight": (96, 64),
            f"model.layers.{i}.mlp.up_proj.weight": (96, 64),
            f"model.layers.{i}.post_attention_layernorm.weight": (64,),
            f"model.layers.{i}.self_attn.k_proj.weight": (32, 64),
            f"model.layers.{i}.self_attn.o_proj.weight": (64, 64),
            f"model.layers.{i}.self_attn.q_proj.weight": (64, 64),
            f"model.layers.{i}.self_attn.v_proj.weight": (32, 64),
        }
    shapes["model.norm.weight"] = (64,)
    if not is_tied:
        shapes["lm_head.weight"] = (100, 64)
    return shapes


@dataclass
class TinyCheckpoint:
    """Edit the parts, then `write`."""

    config: dict[str, Any] = field(default_factory=lambda: dict(CONFIG))
    shapes: dict[str, tuple[int, ...]] = field(default_factory=llama_shapes)
    dtype: str = "F32"
    dtypes: dict[str, str] = field(default_factory=dict)  # of single tensors
    tokenizer: str | None = '{"model": {}}'
    tokenizer_config: dict[str, Any] | None = field(
        default_factory=lambda: {"chat_template": "{{ messages }}", "model_max_length": 256}
    )
    generation_config: dict[str, Any] | None = None
    template: str | None = None
    seed: int = 0

    def specs(self) -> list[TensorSpec]:
        return [
            TensorSpec(name, self.dtypes.get(name, self.dtype), shape)
            for name, shape in self.shapes.items()
        ]

    def tensor_bytes(self, spec: TensorSpec) -> bytes:
        return random_bytes(spec.nbytes, seed=hash((spec.name, self.seed)) % 2**32)

    def write(self, folder: Path, *, num_shards: int = 1) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        self._write_json(folder / "config.json", self.config)
        self._write_json(folder / "tokenizer_config.json", self.tokenizer_config)
        self._write_json(folder / "generation_config.json", self.generation_config)
        if self.tokenizer is not None:
            (folder / "tokenizer.json").write_text(self.tokenizer)
        if self.template is not None:
            (folder / "chat_template.jinja").write_text(self.template)
        self._write_weights(folder, num_shards)
        return folder

    def _write_weights(self, folder: Path, num_shards: int) -> None:
        specs = self.specs()
        if num_shards == 1:
            (folder / "model.safetensors").write_bytes(self.safetensors(specs))
            return
        weight_map: dict[str, str] = {}
        for shard in range(num_shards):
            name = f"model-{shard + 1:05}-of-{num_shards:05}.safetensors"
            mine = specs[shard::num_shards]
            (folder / name).write_bytes(self.safetensors(mine))
            weight_map |= {spec.name: name for spec in mine}
        self._write_json(folder / "model.safetensors.index.json", {"weight_map": weight_map})

    def safetensors(self, specs: list[TensorSpec]) -> bytes:
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        body = b""
        for spec in specs:
            data = self.tensor_bytes(spec)
            assert len(data) == DTYPE_SIZE_BYTES[spec.dtype] * _count(spec.shape)
            header[spec.name] = {
                "dtype": spec.dtype,
                "shape": spec.shape,
                "data_offsets": [len(body), len(body) + len(data)],
            }
            body += data
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + body

    @staticmethod
    def _write_json(path: Path, content: dict[str, Any] | None) -> None:
        if content is not None:
            path.write_text(json.dumps(content))


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
