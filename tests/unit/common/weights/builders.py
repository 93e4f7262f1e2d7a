"""Small units and manifests for tests."""

import random

from blake3 import blake3

from libs.common.weights.manifest import (
    TENSOR_ALIGNMENT_BYTES,
    FileEntry,
    Manifest,
    TensorEntry,
    UnitEntry,
    UnitKind,
)
from libs.common.weights.safetensors import TensorSpec, plan_layout


def random_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def unit_of(
    data: bytes,
    *,
    kind: UnitKind = UnitKind.LAYER,
    layer_index: int | None = 0,
    chunk_size_bytes: int = 4096,
    tensors: tuple[TensorEntry, ...] = (),
) -> UnitEntry:
    starts = range(0, len(data), chunk_size_bytes)
    return UnitEntry(
        kind=kind,
        layer_index=layer_index,
        digest=blake3(data).hexdigest(),
        size_bytes=len(data),
        chunk_size_bytes=chunk_size_bytes,
        chunk_digests=tuple(blake3(data[i : i + chunk_size_bytes]).hexdigest() for i in starts),
        tensors=tensors,
    )


def safetensors_unit(
    specs: list[TensorSpec],
    *,
    kind: UnitKind,
    layer_index: int | None = None,
    seed: int = 0,
    chunk_size_bytes: int = 4096,
) -> tuple[UnitEntry, bytes]:
    layout = plan_layout(specs, alignment=TENSOR_ALIGNMENT_BYTES)
    data = bytearray(random_bytes(layout.size_bytes, seed))
    data[: len(layout.header)] = layout.header
    tensors = tuple(
        TensorEntry(t.spec.name, t.spec.dtype, t.spec.shape, t.offset, t.spec.nbytes)
        for t in layout.tensors
    )
    unit = unit_of(
        bytes(data),
        kind=kind,
        layer_index=layer_index,
        chunk_size_bytes=chunk_size_bytes,
        tensors=tensors,
    )
    return unit, bytes(data)


def tiny_manifest(num_layers: int = 2) -> Manifest:
    units = [safetensors_unit([TensorSpec("embed", "F32", (8, 4))], kind=UnitKind.EMBEDDING)]
    units += [
        safetensors_unit(
            [TensorSpec(f"layers.{i}.w", "F32", (4, 4))], kind=UnitKind.LAYER, layer_index=i
        )
        for i in range(num_layers)
    ]
    units.append(safetensors_unit([TensorSpec("norm", "F32", (4,))], kind=UnitKind.FINAL_NORM))
    return Manifest(
        architecture="LlamaForCausalLM",
        config_json="{}",
        dtype="F32",
        max_context_tokens=128,
        vocab_size=8,
        bos_token_id=None,
        eos_token_ids=(2,),
        kv_bytes_per_token=32,
        tokenizer_files=(FileEntry("tokenizer.json", "a" * 64, 10),),
        units=tuple(unit for unit, _data in units),
    )
