"""A node's host cache: which units of which models it holds. The model used longest ago goes first.

Units of a model are bits of a number, in the order of its summary: there may be millions in all.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(eq=False)
class HostCache:
    """Sizes are those of the files. What a worker has pinned stays; a fetch adds what arrived."""

    capacity_bytes: int
    on_change: Callable[[str, int], None] = lambda manifest, more_bytes: None
    used_bytes: int = 0
    _held: OrderedDict[str, int] = field(default_factory=OrderedDict)  # bits, by manifest
    _sizes: dict[str, Sequence[int]] = field(default_factory=dict)  # of units, by manifest
    _pins: Counter[str] = field(default_factory=Counter)  # workers, by manifest

    def held(self, manifest: str) -> int:
        return self._held.get(manifest, 0)

    def pin(self, manifest: str) -> None:
        self._pins[manifest] += 1
        if manifest in self._held:
            self._held.move_to_end(manifest)

    def unpin(self, manifest: str) -> None:
        self._pins[manifest] -= 1
        if not self._pins[manifest]:
            del self._pins[manifest]

    def drop_unpinned(self, manifest: str) -> bool:
        """Whether anything of it was held, and no worker needs it."""
        if manifest in self._pins or manifest not in self._held:
            return False
        self._drop(manifest)
        return True

    def add(self, manifest: str, units: int, sizes: Sequence[int]) -> list[str]:
        """Manifests of which nothing is held any more, because these units took their room."""
        new = units & ~self.held(manifest)
        self._sizes[manifest] = sizes
        self._held[manifest] = self.held(manifest) | units
        self._held.move_to_end(manifest)
        self._change(manifest, size_of(new, sizes))
        return self._evict()

    def _drop(self, manifest: str) -> None:
        self._change(manifest, -size_of(self._held.pop(manifest), self._sizes.pop(manifest)))

    def _change(self, manifest: str, more_bytes: int) -> None:
        self.used_bytes += more_bytes
        self.on_change(manifest, more_bytes)

    def _evict(self) -> list[str]:
        gone: list[str] = []
        if self.used_bytes <= self.capacity_bytes:
            return gone
        for manifest in list(self._held):
            if self.used_bytes <= self.capacity_bytes:
                break
            if manifest not in self._pins:
                self._drop(manifest)
                gone.append(manifest)
        return gone


def bits(indexes: Sequence[int]) -> int:
    return sum(1 << index for index in indexes)


def size_of(units: int, sizes: Sequence[int]) -> int:
    return sum(size for index, size in enumerate(sizes) if units >> index & 1)
