"""Random weights of a Llama's shape, written about as fast as the disk takes them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.support.checkpoints import byte_tokenizer, save_tokenizer

SEED = 20261
_POOL_SIZE = 2**24
_SPREAD = 0.02
_INDEX = "model.safetensors.index.json"
_ENDS = "ends.safetensors"
_BF16_BYTES = 2


@dataclass(frozen=True)
class Shape:
    """Of a Llama with as many key heads as heads and a head of its own, in bfloat16."""

    name: str
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    vocab_size: int
    seed: int = SEED

    @property
    def weight_bytes(self) -> int:
        matrices = 4 * self.hidden_size**2 + 3 * self.hidden_size * self.intermediate_size
        layer = matrices + 2 * self.hidden_size
        ends = 2 * self.vocab_size * self.hidden_size + self.hidden_size
        return _BF16_BYTES * (self.num_layers * layer + ends)

    @property
    def config(self) -> Mapping[str, object]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_heads,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": 4096,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10_000.0,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "bos_token_id": None,
            "eos_token_id": None,  # no answer ends early
        }


LLAMA_2_7B = Shape("random-llama-2-7b", 32, 4096, 11008, 32, 32_000)


def ensure_checkpoint(folder: Path, shape: Shape) -> Path:
    """A folder in Hugging Face's layout, one file per layer; made where it is missing."""
    if (folder / _INDEX).exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    places: dict[str, str] = {}
    for file_name, tensors in _files(shape):
        save_file(tensors, folder / file_name, {"format": "pt"})
        places |= dict.fromkeys(tensors, file_name)
    (folder / "config.json").write_text(json.dumps(shape.config))
    save_tokenizer(byte_tokenizer(shape.vocab_size), folder)
    index = {"metadata": {"total_size": shape.weight_bytes}, "weight_map": places}
    (folder / _INDEX).write_text(json.dumps(index))  # last: the folder is whole with it
    return folder


def _files(shape: Shape) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    drawn = _Drawn(shape.seed)
    for index in range(shape.num_layers):
        yield f"layer-{index:03}.safetensors", _layer(f"model.layers.{index}", shape, drawn)
    hidden, vocabulary = shape.hidden_size, shape.vocab_size
    yield (
        _ENDS,
        {
            "model.embed_tokens.weight": drawn.matrix(vocabulary, hidden),
            "model.norm.weight": torch.ones(hidden, dtype=torch.bfloat16),
            "lm_head.weight": drawn.matrix(vocabulary, hidden),
        },
    )


def _layer(prefix: str, shape: Shape, drawn: "_Drawn") -> dict[str, torch.Tensor]:
    hidden, inner = shape.hidden_size, shape.intermediate_size
    attention = {
        f"{prefix}.self_attn.{name}_proj.weight": drawn.matrix(hidden, hidden) for name in "qkvo"
    }
    norms = {
        f"{prefix}.{name}_layernorm.weight": torch.ones(hidden, dtype=torch.bfloat16)
        for name in ("input", "post_attention")
    }
    mlp = {
        f"{prefix}.mlp.gate_proj.weight": drawn.matrix(inner, hidden),
        f"{prefix}.mlp.up_proj.weight": drawn.matrix(inner, hidden),
        f"{prefix}.mlp.down_proj.weight": drawn.matrix(hidden, inner),
    }
    return attention | norms | mlp


class _Drawn:
    """Matrices cut from one pool of normal numbers, each at a place of its own: to draw seven
    billion takes minutes. No two layers are alike, so none is stored or fetched for two."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        pool = torch.randn(_POOL_SIZE, generator=self._generator) * _SPREAD
        self._pool = pool.to(torch.bfloat16)

    def matrix(self, num_rows: int, num_columns: int) -> torch.Tensor:
        start = int(torch.randint(_POOL_SIZE, (), generator=self._generator))
        end = start + num_rows * num_columns
        num_pools = -(-end // _POOL_SIZE)
        repeated = self._pool if num_pools == 1 else self._pool.repeat(num_pools)
        return repeated[start:end].view(num_rows, num_columns).clone()
