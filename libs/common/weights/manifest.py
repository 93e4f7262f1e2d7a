"""What a model's weights are made of: values only, no I/O.

A manifest names the units of a model (embedding, each decoder layer, final norm, LM head), where
every tensor lies inside its unit, and a BLAKE3 digest per chunk. It is itself an object, named by
the digest of its canonical bytes (`manifest_json.py`). Offsets count from the start of the unit,
which is one valid safetensors file. Stdlib only: the worker runtime imports this module.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

CHUNK_SIZE_BYTES = 8 * 2**20
TENSOR_ALIGNMENT_BYTES = 64
MANIFEST_FORMAT = 1


class UnitKind(StrEnum):
    EMBEDDING = "embedding"  # token embedding; also the head's matrix where they are tied
    LAYER = "layer"  # one decoder layer
    FINAL_NORM = "final_norm"  # the norm after the last layer
    LM_HEAD = "lm_head"  # absent from models with tied embeddings


@dataclass(frozen=True)
class TensorEntry:
    name: str  # as in the checkpoint: model.layers.3.self_attn.q_proj.weight
    dtype: str  # safetensors' word: BF16, F32, F16
    shape: tuple[int, ...]
    offset: int  # from the start of the unit, a multiple of TENSOR_ALIGNMENT_BYTES
    nbytes: int

    @property
    def end(self) -> int:
        return self.offset + self.nbytes


@dataclass(frozen=True)
class ByteRange:
    start: int
    end: int  # exclusive

    @property
    def nbytes(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class UnitEntry:
    kind: UnitKind
    layer_index: int | None  # of LAYER units only
    digest: str  # BLAKE3 of the whole unit, hexadecimal
    size_bytes: int
    chunk_size_bytes: int
    chunk_digests: tuple[str, ...]
    tensors: tuple[TensorEntry, ...]  # in the order in which they lie in the unit

    @property
    def key(self) -> str:
        return unit_key(self.digest)

    @property
    def num_chunks(self) -> int:
        return len(self.chunk_digests)

    def chunk_range(self, index: int) -> ByteRange:
        start = index * self.chunk_size_bytes
        return ByteRange(start, min(start + self.chunk_size_bytes, self.size_bytes))


@dataclass(frozen=True)
class FileEntry:
    """A small file that travels with the model: tokenizer.json, chat_template.jinja, …"""

    name: str
    digest: str
    size_bytes: int

    @property
    def key(self) -> str:
        return tokenizer_key(self.digest)


@dataclass(frozen=True)
class Manifest:
    architecture: str  # transformers' class name: LlamaForCausalLM
    config_json: str  # the checkpoint's config.json, canonical
    dtype: str  # of every weight: BF16, F32, F16
    max_context_tokens: int
    vocab_size: int
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    kv_bytes_per_token: int  # keys and values of all layers, in the weights' dtype
    tokenizer_files: tuple[FileEntry, ...]
    units: tuple[UnitEntry, ...]  # embedding, layers in order, final norm, LM head

    @cached_property
    def num_layers(self) -> int:
        return sum(unit.kind is UnitKind.LAYER for unit in self.units)

    @cached_property
    def total_bytes(self) -> int:
        return sum(unit.size_bytes for unit in self.units)

    @cached_property
    def units_by_digest(self) -> dict[str, UnitEntry]:
        return {unit.digest: unit for unit in self.units}

    def tokenizer_file(self, name: str) -> FileEntry | None:
        return next((file for file in self.tokenizer_files if file.name == name), None)


def total_size_bytes(units: Iterable[UnitEntry]) -> int:
    return sum(unit.size_bytes for unit in units)


def unit_key(digest: str) -> str:
    return f"units/{digest}"


def manifest_key(digest: str) -> str:
    return f"manifests/{digest}"


def tokenizer_key(digest: str) -> str:
    return f"tokenizers/{digest}"
