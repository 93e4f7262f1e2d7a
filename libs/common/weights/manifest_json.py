"""Manifest ↔ its canonical bytes, which are what the object store holds and the digest names."""

import re
from math import prod

from libs.common.errors import ManifestError
from libs.common.strict_json import JsonFieldError, JsonObject, canonical_bytes, parse_object
from libs.common.weights.manifest import (
    MANIFEST_FORMAT,
    TENSOR_ALIGNMENT_BYTES,
    FileEntry,
    Manifest,
    TensorEntry,
    UnitEntry,
    UnitKind,
)
from libs.common.weights.safetensors import DTYPE_SIZE_BYTES

MAX_MANIFEST_BYTES = 64 * 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MANIFEST_FIELDS = frozenset(
    "format architecture config_json dtype max_context_tokens vocab_size bos_token_id "
    "eos_token_ids kv_bytes_per_token tokenizer_files units".split()
)
_UNIT_FIELDS = frozenset(
    "kind layer_index digest size_bytes chunk_size_bytes chunk_digests tensors".split()
)
_TENSOR_FIELDS = frozenset("name dtype shape offset nbytes".split())
_FILE_FIELDS = frozenset("name digest size_bytes".split())


def manifest_digest(data: bytes) -> str:
    """BLAKE3 of a manifest's bytes: its name in the object store."""
    from blake3 import blake3  # here, so that the worker runtime never loads it

    return blake3(data).hexdigest()


def encode_manifest(manifest: Manifest) -> bytes:
    return canonical_bytes(
        {
            "format": MANIFEST_FORMAT,
            "architecture": manifest.architecture,
            "config_json": manifest.config_json,
            "dtype": manifest.dtype,
            "max_context_tokens": manifest.max_context_tokens,
            "vocab_size": manifest.vocab_size,
            "bos_token_id": manifest.bos_token_id,
            "eos_token_ids": list(manifest.eos_token_ids),
            "kv_bytes_per_token": manifest.kv_bytes_per_token,
            "tokenizer_files": [vars(file) for file in manifest.tokenizer_files],
            "units": [_encode_unit(unit) for unit in manifest.units],
        }
    )


def decode_manifest(data: bytes) -> Manifest:
    """The manifest in `data`. Raises ManifestError naming the field that is wrong."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"manifest of {len(data)} bytes, the limit is {MAX_MANIFEST_BYTES}")
    try:
        manifest = _decode(parse_object(data, name="manifest"))
    except JsonFieldError as exc:
        raise ManifestError(f"manifest field {exc}") from exc
    _check_units(manifest.units)
    if encode_manifest(manifest) != data:
        raise ManifestError("manifest is not in canonical form")
    return manifest


def _encode_unit(unit: UnitEntry) -> dict[str, object]:
    return {
        "kind": unit.kind.value,
        "layer_index": unit.layer_index,
        "digest": unit.digest,
        "size_bytes": unit.size_bytes,
        "chunk_size_bytes": unit.chunk_size_bytes,
        "chunk_digests": list(unit.chunk_digests),
        "tensors": [{**vars(tensor), "shape": list(tensor.shape)} for tensor in unit.tensors],
    }


def _decode(root: JsonObject) -> Manifest:
    if root.integer("format") != MANIFEST_FORMAT:
        raise JsonFieldError("format", f"{MANIFEST_FORMAT}, the only one this version reads")
    root.require_only(_MANIFEST_FIELDS)
    return Manifest(
        architecture=root.text("architecture", max_length=128),
        config_json=root.text("config_json"),
        dtype=_dtype(root),
        max_context_tokens=root.integer("max_context_tokens", minimum=1),
        vocab_size=root.integer("vocab_size", minimum=1),
        bos_token_id=root.integer("bos_token_id") if root.has("bos_token_id") else None,
        eos_token_ids=root.integers("eos_token_ids", max_items=64),
        kv_bytes_per_token=root.integer("kv_bytes_per_token", minimum=1),
        tokenizer_files=tuple(_decode_file(file) for file in root.children("tokenizer_files")),
        units=tuple(_decode_unit(unit) for unit in root.children("units")),
    )


def _decode_file(obj: JsonObject) -> FileEntry:
    obj.require_only(_FILE_FIELDS)
    name = obj.text("name", max_length=128)
    if "/" in name or name in ("", ".", ".."):
        raise JsonFieldError(obj.field("name"), "a plain file name")
    return FileEntry(name, _digest(obj.text("digest"), obj.field("digest")), _size(obj))


def _decode_unit(obj: JsonObject) -> UnitEntry:
    obj.require_only(_UNIT_FIELDS)
    try:
        kind = UnitKind(obj.text("kind"))
    except ValueError as exc:
        raise JsonFieldError(obj.field("kind"), f"one of {', '.join(UnitKind)}") from exc
    digests = obj.texts("chunk_digests")
    return UnitEntry(
        kind=kind,
        layer_index=obj.integer("layer_index") if kind is UnitKind.LAYER else None,
        digest=_digest(obj.text("digest"), obj.field("digest")),
        size_bytes=_size(obj),
        chunk_size_bytes=obj.integer("chunk_size_bytes", minimum=4096, maximum=2**30),
        chunk_digests=tuple(_digest(text, obj.field("chunk_digests")) for text in digests),
        tensors=tuple(_decode_tensor(tensor) for tensor in obj.children("tensors")),
    )


def _decode_tensor(obj: JsonObject) -> TensorEntry:
    obj.require_only(_TENSOR_FIELDS)
    dtype, shape = _dtype(obj), obj.integers("shape", max_items=8)
    nbytes = obj.integer("nbytes")
    if nbytes != prod(shape) * DTYPE_SIZE_BYTES[dtype]:
        raise JsonFieldError(obj.field("nbytes"), f"the size of a {dtype} tensor of {list(shape)}")
    offset = obj.integer("offset")
    if offset % TENSOR_ALIGNMENT_BYTES:
        raise JsonFieldError(obj.field("offset"), f"a multiple of {TENSOR_ALIGNMENT_BYTES}")
    return TensorEntry(obj.text("name", max_length=512), dtype, shape, offset, nbytes)


def _check_units(units: tuple[UnitEntry, ...]) -> None:
    layers = [unit.layer_index for unit in units if unit.kind is UnitKind.LAYER]
    if layers != list(range(len(layers))):
        raise ManifestError("manifest field units: layers are not 0, 1, 2, … in order")
    for kind, fewest in ((UnitKind.EMBEDDING, 1), (UnitKind.FINAL_NORM, 1), (UnitKind.LM_HEAD, 0)):
        if not fewest <= sum(unit.kind is kind for unit in units) <= 1:
            raise ManifestError(f"manifest field units: expected {fewest} to 1 of kind {kind}")
    for index, unit in enumerate(units):
        _check_extent(unit, f"units[{index}]")


def _check_extent(unit: UnitEntry, path: str) -> None:
    expected = -(-unit.size_bytes // unit.chunk_size_bytes)
    if unit.num_chunks != expected:
        raise ManifestError(f"manifest field {path}.chunk_digests: expected {expected} digests")
    end = 0
    for tensor in unit.tensors:
        if tensor.offset < end or tensor.end > unit.size_bytes:
            raise ManifestError(
                f"manifest field {path}.tensors: {tensor.name} overlaps or lies outside its unit"
            )
        end = tensor.end


def _size(obj: JsonObject) -> int:
    return obj.integer("size_bytes", minimum=1, maximum=2**46)


def _digest(text: str, field: str) -> str:
    if _DIGEST.fullmatch(text) is None:
        raise JsonFieldError(field, "64 hexadecimal digits")
    return text


def _dtype(obj: JsonObject) -> str:
    dtype = obj.text("dtype")
    if dtype not in DTYPE_SIZE_BYTES:
        raise JsonFieldError(obj.field("dtype"), f"one of {', '.join(DTYPE_SIZE_BYTES)}")
    return dtype
