"""Keys and values of every token that runs, per layer and after rotary embedding.

One allocation of the planned size on the compute device. A sequence's tokens lie in one contiguous
region of slots, the same in every layer, so that a layer's keys or values of a token range are one
contiguous `[tokens, kv_heads, head_dim]` block: what attention reads, and what a move to another
worker sends. Who owns which region is decided in `schedule.py`.
"""

import torch

from libs.common.modelconfig.config import ModelConfig
from services.worker.engine.execution.microbatch import SlotMove


def kv_bytes_per_token(config: ModelConfig, num_layers: int, dtype: torch.dtype) -> int:
    """Bytes of one token's keys and values in this many layers."""
    return 2 * num_layers * config.kv_size * dtype.itemsize


class KvCache:
    def __init__(self, storage: torch.Tensor) -> None:
        """`storage` is `[layers, 2, slots, kv_heads, head_dim]`."""
        self._storage = storage
        self.num_slots = storage.shape[2]
        # Views of each layer, made once: [num_slots, kv_heads, head_dim].
        self.keys = tuple(storage[:, 0].unbind())
        self.values = tuple(storage[:, 1].unbind())

    @classmethod
    def allocate(
        cls,
        config: ModelConfig,
        *,
        num_layers: int,
        num_slots: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> "KvCache":
        shape = (num_layers, 2, num_slots, config.num_kv_heads, config.head_dim)
        # Not zeroed: on CPU the pages are taken as tokens arrive. No slot is read before written.
        return cls(torch.empty(shape, dtype=dtype, device=device))

    def part(self, num_layers: int, num_slots: int) -> "KvCache":
        """The first slots of the first layers: a view, which allocates nothing."""
        return KvCache(self._storage[:num_layers, :, :num_slots])

    def clear(self) -> None:
        """Write zeros to all slots."""
        self._storage.zero_()

    def apply(self, move: SlotMove) -> None:
        """Copy a sequence's slots in all layers; source and target do not overlap."""
        block = self._storage.narrow(2, move.source, move.length)
        self._storage.narrow(2, move.target, move.length).copy_(block)
