"""Copies of weights in the order in which a CPU's matrix kernel reads them.

Zero-copy weights lie as the checkpoint has them, and the kernel rearranges them on every use. A
packed copy is read up to twice as fast, at any number of rows, but costs private memory and
time to make. So nothing is packed before an endpoint is warm, then a little between two steps, and
only what the plan's memory has room for: on a CPU the plan reserves the weights' bytes beside the
cache, and the weights themselves lie in the host cache. Only bfloat16 is packed: float32 gains
nothing at one row. At four or more it would, some matrices 1.6 times, which is not used today.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import torch

logger = logging.getLogger(__name__)

# Packed at once, in some milliseconds: no request waits longer for it.
PIECE_BYTES: Final = 8 * 2**20
_BLOCK: Final = 64  # the kernel's blocks fill up to this many rows and columns
_ROWS_HINT: Final = 16  # the layout is the same for any number of rows on the processors tried

# Of torch's own, not of its public interface: a version of it may be without them.
_OPERATORS: Final = ("_is_mkldnn_bf16_supported", "_reorder_linear_weight", "_linear_pointwise")


class Packable(Protocol):
    weight: torch.Tensor  # [out, in]
    bias: torch.Tensor | None  # [out]
    packed: "PackedMatrix | None"


class PackedMatrix:
    """A weight with its bias, in pieces of consecutive rows."""

    def __init__(self, pieces: list[tuple[torch.Tensor, torch.Tensor | None]]) -> None:
        """Of each piece the packed rows, opaque to all other operations, and their bias."""
        self._pieces = pieces
        self._multiply = torch.ops.mkldnn._linear_pointwise.default

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """`[rows, in]` to `[rows, out]`, a new tensor."""
        products = [self._multiply(inputs, w, bias, "none", [], "") for w, bias in self._pieces]
        return products[0] if len(products) == 1 else torch.cat(products, -1)


class Packer:
    """Packs matrices in turn, a piece at a time, as far as the memory goes."""

    def __init__(self, matrices: Iterable[Packable], budget_bytes: int) -> None:
        self.packed_bytes = 0
        self._budget_bytes = budget_bytes
        self._work = self._pack(matrices)

    def pack_next(self) -> bool:
        """Pack one more piece; False when there is none, and ever after a piece that failed."""
        try:
            return next(self._work, False)
        except (RuntimeError, MemoryError) as exc:  # the matrices serve as they lie
            logger.warning("no more weights are packed: %s", exc)
            return False

    def _pack(self, matrices: Iterable[Packable]) -> Iterator[bool]:
        for matrix in matrices:
            size_bytes = packed_bytes(matrix.weight)
            if not is_packable(matrix.weight):
                continue
            if size_bytes <= self._budget_bytes - self.packed_bytes:
                self.packed_bytes += size_bytes
                if matrix.packed is None:  # another executor of the same layers may have done it
                    yield from _pack_matrix(matrix)


def _pack_matrix(matrix: Packable) -> Iterator[bool]:
    """Its old kernel serves until all of it is packed."""
    num_rows, num_columns = matrix.weight.shape
    pack = torch.ops.mkldnn._reorder_linear_weight.default
    rows = max(_BLOCK, PIECE_BYTES // (num_columns * matrix.weight.itemsize) // _BLOCK * _BLOCK)
    pieces = []
    for start in range(0, num_rows, rows):
        end = min(start + rows, num_rows)
        bias = None if matrix.bias is None else matrix.bias[start:end]
        pieces.append((pack(matrix.weight[start:end], _ROWS_HINT), bias))
        if end == num_rows:
            matrix.packed = PackedMatrix(pieces)
        yield True


def is_packable(weight: torch.Tensor) -> bool:
    if weight.device.type != "cpu" or weight.dtype is not torch.bfloat16:
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS):
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def packed_bytes(weight: torch.Tensor) -> int:
    """What a packed copy takes at most."""
    rows, columns = (-(-size // _BLOCK) * _BLOCK for size in weight.shape)
    return rows * columns * weight.itemsize
