"""Keys and values of every token that runs, per layer and after rotary embedding.

Allocated on the compute device at the planned size, for some consecutive layers at once; layers can
join later. A sequence's tokens lie in one contiguous region of slots, the same in every layer, so
that a layer's keys or values of a token range are one contiguous `[tokens, kv_heads, head_dim]`
block: what attention reads, and what a move to another worker sends. Who owns which region is
decided in `schedule.py`.
"""

from dataclasses import dataclass
from typing import Self

import torch

from libs.common.modelconfig.config import ModelConfig
from services.worker.engine.execution.microbatch import SlotMove


def kv_bytes_per_token(config: ModelConfig, num_layers: int, dtype: torch.dtype) -> int:
    """Bytes of one token's keys and values in this many layers."""
    return 2 * num_layers * config.kv_size * dtype.itemsize


class KvCache:
    def __init__(self, *storages: torch.Tensor) -> None:
        """Each `[layers, 2, slots, kv_heads, head_dim]`, of layers that follow each other."""
        self._storages = storages
        self.num_slots = storages[0].shape[2]
        # Views of each layer, made once: [num_slots, kv_heads, head_dim].
        self.keys = tuple(keys for storage in storages for keys in storage[:, 0].unbind())
        self.values = tuple(values for storage in storages for values in storage[:, 1].unbind())

    @classmethod
    def allocate(
        cls,
        config: ModelConfig,
        *,
        num_layers: int,
        num_slots: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Self:
        shape = (num_layers, 2, num_slots, config.num_kv_heads, config.head_dim)
        # Not zeroed: on CPU the pages are taken as tokens arrive. No slot is read before written.
        return cls(torch.empty(shape, dtype=dtype, device=device))

    @classmethod
    def joined(cls, *caches: "KvCache") -> Self:
        """Of the layers of all of them, in order: the same memory."""
        return cls(*(storage for cache in caches for storage in cache._storages))

    def beside(self, other: "KvCache") -> "OtherLayers":
        """What it does not share with one that it was joined of."""
        shared = {id(storage) for storage in other._storages}
        storages, layers, first = [], set[int](), 0
        for storage in self._storages:
            if id(storage) not in shared:
                storages.append(storage)
                layers.update(range(first, first + len(storage)))
            first += len(storage)
        return OtherLayers(KvCache(*storages), frozenset(layers))

    @property
    def num_layers(self) -> int:
        return len(self.keys)

    @property
    def bytes_per_token(self) -> int:
        """In all layers."""
        slots = (storage[:, :, 0] for storage in self._storages)
        return sum(slot.numel() * slot.itemsize for slot in slots)

    def part(self, num_layers: int, num_slots: int) -> "KvCache":
        """The first slots of the first layers, all allocated at once: a view, which allocates
        nothing."""
        return KvCache(self._storages[0][:num_layers, :, :num_slots])

    def clear(self) -> None:
        """Write zeros to all slots."""
        for storage in self._storages:
            storage.zero_()

    def apply(self, move: SlotMove) -> None:
        """Copy a sequence's slots in all layers; source and target do not overlap."""
        for storage in self._storages:
            block = storage.narrow(2, move.source, move.length)
            storage.narrow(2, move.target, move.length).copy_(block)

    def read(self, start: int, length: int) -> torch.Tensor:
        """A copy on the host of slots [start, start + length):
        `[layers, 2, length, kv_heads, head_dim]`."""
        blocks = [storage.narrow(2, start, length) for storage in self._storages]
        return torch.cat(blocks).to("cpu")

    def write(self, first_layer: int, start: int, block: torch.Tensor) -> None:
        """What `read` gave elsewhere, to the slots from `start` on of the layers from `first_layer`
        on, counted in this cache."""
        for keys, values, of_layer in zip(
            self.keys[first_layer:], self.values[first_layer:], block, strict=False
        ):
            keys.narrow(0, start, block.shape[2]).copy_(of_layer[0])
            values.narrow(0, start, block.shape[2]).copy_(of_layer[1])


@dataclass(frozen=True)
class OtherLayers:
    cache: KvCache
    layers: frozenset[int]  # counted in the cache that has all of them
