"""The safetensors container: its header, read from untrusted bytes and written by the importer.

A file is a little-endian u64 header length, the header (JSON), then the tensors' bytes without
holes. Format: https://github.com/huggingface/safetensors#format. Stdlib only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

from libs.common.errors import SafetensorsError
from libs.common.strict_json import JsonFieldError, JsonObject, canonical_bytes, parse_object

LENGTH_FIELD_BYTES = 8
MAX_HEADER_BYTES = 32 * 2**20
PADDING_PREFIX = "__padding_"
_NO_METADATA: Mapping[str, str] = MappingProxyType({})

DTYPE_SIZE_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
}


@dataclass(frozen=True)
class TensorSpec:
    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * DTYPE_SIZE_BYTES[self.dtype]


@dataclass(frozen=True)
class PlacedTensor:
    spec: TensorSpec
    offset: int  # from the start of the file

    @property
    def end(self) -> int:
        return self.offset + self.spec.nbytes


@dataclass(frozen=True)
class Layout:
    """A file about to be written: its first bytes, and where each tensor goes."""

    header: bytes  # length field, JSON and padding
    tensors: tuple[PlacedTensor, ...]
    size_bytes: int


def header_length(first_bytes: bytes, file_size_bytes: int) -> int:
    """Bytes of JSON that follow the length field. Raises SafetensorsError."""
    if len(first_bytes) < LENGTH_FIELD_BYTES:
        raise SafetensorsError(f"file of {file_size_bytes} bytes is too short for a header")
    length = int.from_bytes(first_bytes[:LENGTH_FIELD_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        raise SafetensorsError(f"header of {length} bytes, the limit is {MAX_HEADER_BYTES}")
    if LENGTH_FIELD_BYTES + length > file_size_bytes:
        raise SafetensorsError(f"header of {length} bytes in a file of {file_size_bytes}")
    return length


def parse_header(header: bytes, file_size_bytes: int) -> tuple[PlacedTensor, ...]:
    """The tensors that the JSON `header` describes, in file order.

    Raises SafetensorsError for anything that the format forbids: wrong sizes, overlaps, holes.
    """
    data_start = LENGTH_FIELD_BYTES + len(header)
    try:
        root = parse_object(header, name="header")
        tensors = [
            _parse_tensor(name, obj, data_start)
            for name, obj in root.members()
            if name != "__metadata__"
        ]
    except JsonFieldError as exc:
        raise SafetensorsError(f"header {exc}") from exc
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.end))
    _check_extent(tensors, data_start, file_size_bytes)
    return tuple(tensors)


def _parse_tensor(name: str, obj: JsonObject, data_start: int) -> PlacedTensor:
    dtype = obj.text("dtype", max_length=16)
    if dtype not in DTYPE_SIZE_BYTES:
        raise JsonFieldError(obj.field("dtype"), f"one of {', '.join(DTYPE_SIZE_BYTES)}")
    spec = TensorSpec(name, dtype, obj.integers("shape", max_items=16))
    offsets = obj.integers("data_offsets", max_items=2)
    if len(offsets) != 2 or offsets[1] - offsets[0] != spec.nbytes:
        expected = f"two offsets {spec.nbytes} bytes apart ({dtype} {list(spec.shape)})"
        raise JsonFieldError(obj.field("data_offsets"), expected)
    return PlacedTensor(spec, data_start + offsets[0])


def _check_extent(tensors: Sequence[PlacedTensor], data_start: int, file_size_bytes: int) -> None:
    end = data_start
    for tensor in tensors:
        if tensor.end > file_size_bytes:
            raise SafetensorsError(f"tensor {tensor.spec.name} lies outside the file")
        if tensor.offset < end:
            raise SafetensorsError(f"tensor {tensor.spec.name} overlaps another")
        if tensor.offset > end:
            raise SafetensorsError(f"{tensor.offset - end} unused bytes before {tensor.spec.name}")
        end = tensor.end
    if end != file_size_bytes:
        raise SafetensorsError(f"{file_size_bytes - end} unused bytes at the end of the file")


def plan_layout(
    specs: Sequence[TensorSpec], *, alignment: int, metadata: Mapping[str, str] = _NO_METADATA
) -> Layout:
    """Place tensors in the given order, each at a multiple of `alignment` bytes.

    The format allows no holes, so gaps become U8 tensors whose names begin with PADDING_PREFIX.
    """
    members: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    offsets: list[int] = []
    position = 0  # within the data
    for spec in specs:
        gap = -position % alignment
        if gap:
            padding = TensorSpec(f"{PADDING_PREFIX}{len(offsets)}", "U8", (gap,))
            members[padding.name] = _describe(padding, position)
        offsets.append(position + gap)
        members[spec.name] = _describe(spec, position + gap)
        position += gap + spec.nbytes
    header = _frame(canonical_bytes(members), alignment)
    placed = (
        PlacedTensor(spec, len(header) + offset)
        for spec, offset in zip(specs, offsets, strict=True)
    )
    return Layout(header, tuple(placed), len(header) + position)


def _describe(spec: TensorSpec, offset: int) -> dict[str, object]:
    return {
        "dtype": spec.dtype,
        "shape": list(spec.shape),
        "data_offsets": [offset, offset + spec.nbytes],
    }


def _frame(text: bytes, alignment: int) -> bytes:
    padded = text + b" " * (-(len(text) + LENGTH_FIELD_BYTES) % alignment)
    return len(padded).to_bytes(LENGTH_FIELD_BYTES, "little") + padded
