"""A tiny random Llama as unit files in a folder, and its manifest. No transformers: torch only."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from blake3 import blake3

from libs.common.weights.manifest import (
    TENSOR_ALIGNMENT_BYTES,
    Manifest,
    TensorEntry,
    UnitEntry,
    UnitKind,
)
from libs.common.weights.manifest_json import encode_manifest, manifest_digest
from libs.common.weights.safetensors import TensorSpec, plan_layout
from libs.common.weights.unitwriter import UnitWriter

VOCAB, HIDDEN, INNER, HEADS, KV_HEADS, HEAD_DIM = 97, 32, 48, 4, 2, 8
MAX_CONTEXT = 4096
EOS = 1
CHUNK_BYTES = 4096
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "max_position_embeddings": MAX_CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": True,
    "eos_token_id": EOS,
}


@dataclass(frozen=True)
class Unit:
    entry: UnitEntry
    data: bytes


@dataclass
class TinyModel:
    """`units` are in the order in which a worker needs them."""

    num_layers: int = 2
    state: dict[str, torch.Tensor] = field(init=False)
    units: list[Unit] = field(init=False)
    manifest: Manifest = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(11)
        self.state = {
            name: torch.randn(shape, generator=generator) * 0.4 for name, shape in self._shapes()
        }
        self.units = [
            self._unit(UnitKind.EMBEDDING, None, "model.embed_tokens."),
            *(self._unit(UnitKind.LAYER, i, f"model.layers.{i}.") for i in range(self.num_layers)),
            self._unit(UnitKind.FINAL_NORM, None, "model.norm."),
        ]
        self.manifest = Manifest(
            architecture="LlamaForCausalLM",
            config_json=json.dumps({**CONFIG, "num_hidden_layers": self.num_layers}),
            dtype="F32",
            max_context_tokens=MAX_CONTEXT,
            vocab_size=VOCAB,
            bos_token_id=None,
            eos_token_ids=(EOS,),
            kv_bytes_per_token=self.num_layers * 2 * KV_HEADS * HEAD_DIM * 4,
            tokenizer_files=(),
            units=tuple(unit.entry for unit in self.units),
        )

    @property
    def manifest_bytes(self) -> bytes:
        return encode_manifest(self.manifest)

    @property
    def manifest_digest(self) -> str:
        return manifest_digest(self.manifest_bytes)

    def _shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        query, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
        shapes: list[tuple[str, tuple[int, ...]]] = [("model.embed_tokens.weight", (VOCAB, HIDDEN))]
        for layer in range(self.num_layers):
            prefix = f"model.layers.{layer}."
            shapes += [
                (prefix + "self_attn.q_proj.weight", (query, HIDDEN)),
                (prefix + "self_attn.k_proj.weight", (kv, HIDDEN)),
                (prefix + "self_attn.v_proj.weight", (kv, HIDDEN)),
                (prefix + "self_attn.o_proj.weight", (HIDDEN, query)),
                (prefix + "mlp.gate_proj.weight", (INNER, HIDDEN)),
                (prefix + "mlp.up_proj.weight", (INNER, HIDDEN)),
                (prefix + "mlp.down_proj.weight", (HIDDEN, INNER)),
                (prefix + "input_layernorm.weight", (HIDDEN,)),
                (prefix + "post_attention_layernorm.weight", (HIDDEN,)),
            ]
        return [*shapes, ("model.norm.weight", (HIDDEN,))]

    def _unit(self, kind: UnitKind, layer_index: int | None, prefix: str) -> Unit:
        names = [name for name in self.state if name.startswith(prefix)]
        specs = [TensorSpec(name, "F32", tuple(self.state[name].shape)) for name in names]
        layout = plan_layout(specs, alignment=TENSOR_ALIGNMENT_BYTES)
        data = bytearray(layout.size_bytes)
        data[: len(layout.header)] = layout.header
        for placed in layout.tensors:
            data[placed.offset : placed.end] = self.state[placed.spec.name].numpy().tobytes()
        entries = tuple(
            TensorEntry(p.spec.name, "F32", p.spec.shape, p.offset, p.spec.nbytes)
            for p in layout.tensors
        )
        return Unit(_entry(kind, layer_index, bytes(data), entries), bytes(data))


def _entry(
    kind: UnitKind, layer_index: int | None, data: bytes, tensors: tuple[TensorEntry, ...]
) -> UnitEntry:
    starts = range(0, len(data), CHUNK_BYTES)
    return UnitEntry(
        kind=kind,
        layer_index=layer_index,
        digest=blake3(data).hexdigest(),
        size_bytes=len(data),
        chunk_size_bytes=CHUNK_BYTES,
        chunk_digests=tuple(blake3(data[i : i + CHUNK_BYTES]).hexdigest() for i in starts),
        tensors=tensors,
    )


class UnitFolder:
    """Unit files of a model, each filled when a test says so."""

    def __init__(self, folder: Path, model: TinyModel) -> None:
        self.model = model
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.writers = {
            unit.entry.digest: UnitWriter.create(folder / unit.entry.digest, unit.entry)
            for unit in model.units
        }

    def fill(self, *units: Unit) -> None:
        """Make units complete; all of them if none is named."""
        for unit in units or self.model.units:
            writer = self.writers[unit.entry.digest]
            for index in range(unit.entry.num_chunks):
                extent = unit.entry.chunk_range(index)
                writer.begin_chunk(index)
                writer.chunk_view(index)[:] = unit.data[extent.start : extent.end]
                writer.commit_chunk(index)

    def beat(self) -> None:
        for writer in self.writers.values():
            writer.beat()

    def open(self, digest: str) -> int:
        return os.open(self._folder / digest, os.O_RDONLY | os.O_CLOEXEC)
