"""What one block of keys and values is on the wire: a packed header, and its bytes in frames.

The digest is of all that goes before it in the header and of the bytes. All integers are
little-endian. Nothing is read before its size is checked.
"""

import struct
from dataclasses import dataclass
from typing import Final

import torch
from blake3 import blake3

from services.worker.engine.consolidation.kv_ports import KvBlock, KvBlockLost
from services.worker.runtime.dataplane.errors import WireError
from services.worker.runtime.dataplane.wire import hidden_frames

MAX_BLOCK_BYTES: Final = 64 * 2**20

_MAGIC: Final = b"HSK1"  # the last character is the format's version
# magic, stage, bytes per value, export, first layer, layers, tokens, key heads, values of a head
_FIXED: Final = struct.Struct("<4sHHQIIIII")
_DIGEST_BYTES: Final = 32
HEADER_BYTES: Final = _FIXED.size + _DIGEST_BYTES


@dataclass(frozen=True)
class KvShape:
    """Of all blocks of a model."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    dtype: torch.dtype


def encode_block(block: KvBlock) -> list[bytes | memoryview]:
    """Its frames: the header, then views of its bytes."""
    num_layers, _, num_tokens, num_kv_heads, head_dim = block.data.shape
    data = block.data.contiguous().view(torch.uint8).flatten().numpy().data
    fixed = _FIXED.pack(
        *(_MAGIC, block.stage, block.data.itemsize, block.export_id, block.first_layer),
        *(num_layers, num_tokens, num_kv_heads, head_dim),
    )
    return [fixed + _digest(fixed, data), *hidden_frames(data)]


def decode_block(frames: list[memoryview], stage: int, shape: KvShape) -> KvBlock | KvBlockLost:
    """What `stage` sent of a model of that shape. Raises WireError for what no stage sends."""
    header, *parts = frames
    if len(header) != HEADER_BYTES:
        raise WireError(f"a header of {len(header)} bytes, a block has {HEADER_BYTES}")
    fixed, digest = header[: _FIXED.size], header[_FIXED.size :]
    magic, sender, itemsize, export_id, first_layer, num_layers, *sizes = _FIXED.unpack(fixed)
    num_tokens, num_kv_heads, head_dim = sizes
    if (magic, sender) != (_MAGIC, stage):
        raise WireError(f"no block of stage {stage}: {bytes(header[:6])!r}")
    of_model = (shape.dtype.itemsize, shape.num_kv_heads, shape.head_dim)
    if (itemsize, num_kv_heads, head_dim) != of_model:
        raise WireError(f"{itemsize} bytes, {num_kv_heads} heads of {head_dim}: not {of_model}")
    if not 0 < num_layers <= shape.num_layers - first_layer or num_tokens == 0:
        raise WireError(f"{num_tokens} tokens of {num_layers} layers from {first_layer} on")
    num_bytes = 2 * num_layers * num_tokens * num_kv_heads * head_dim * itemsize
    if num_bytes > MAX_BLOCK_BYTES or sum(map(len, parts)) != num_bytes:
        raise WireError(f"{sum(map(len, parts))} bytes of a block where {num_bytes} are announced")
    data = bytearray(b"".join(parts))
    if _digest(fixed, data) != digest:
        return KvBlockLost(export_id, stage)
    values = torch.frombuffer(data, dtype=shape.dtype)
    in_layers = values.view(num_layers, 2, num_tokens, num_kv_heads, head_dim)
    return KvBlock(export_id, stage, first_layer, in_layers)


def _digest(fixed: bytes | memoryview, data: bytearray | memoryview) -> bytes:
    digest = blake3(bytes(fixed))
    digest.update(data)
    return digest.digest()
