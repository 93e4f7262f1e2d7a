"""Which units a node holds when it starts: those of some models of the catalogue.

Kept as the models' numbers: 10,000 digests of each of 1,000 nodes would take gigabytes.
"""

from collections.abc import Callable, Iterator
from functools import cache, reduce
from typing import Final, NamedTuple

from benchmarks.controlplane.catalogue import unit_digests, unit_sizes_bytes
from benchmarks.controlplane.hollow.fetching.manifests import CHUNK_BYTES
from libs.common.weights.unit_set_digest import NO_UNITS, UnitSetDigest
from libs.common.weights.unitheader import header_bytes

_FILE_BYTES: Final = tuple(header_bytes(size, CHUNK_BYTES) + size for size in unit_sizes_bytes())
MODEL_FILE_BYTES: Final = sum(_FILE_BYTES)  # of a model in shared memory


class InitialUnit(NamedTuple):
    digest: str
    file_bytes: int


class InitialUnits:
    """Those that are still there; they leave one by one."""

    def __init__(
        self, numbers: frozenset[int], number_of_unit: Callable[[str], int | None]
    ) -> None:
        """Of whole models, by their numbers. `number_of_unit` knows the units of every model that
        anybody has wanted: of others nobody asks whether they are here."""
        self._numbers, self._number_of_unit = numbers, number_of_unit
        self._gone: set[str] = set()
        self.num_units = len(numbers) * len(_FILE_BYTES)
        self.used_bytes = len(numbers) * MODEL_FILE_BYTES
        self._next_to_go = self._all()

    def __contains__(self, digest: str) -> bool:
        return self._number_of_unit(digest) in self._numbers and digest not in self._gone

    def __iter__(self) -> Iterator[str]:
        return (unit.digest for unit in self._all() if unit.digest not in self._gone)

    @property
    def set_digest(self) -> UnitSetDigest:
        """Of all there were at first."""
        return reduce(UnitSetDigest.plus, map(_set_digest, self._numbers), NO_UNITS)

    def take(self, digest: str, file_bytes: int) -> None:
        """It leaves: it is evicted, or kept in another place. Call it once for each."""
        self._gone.add(digest)
        self.num_units -= 1
        self.used_bytes -= file_bytes

    def in_order_of_eviction(self) -> Iterator[InitialUnit]:
        """What was offered once is not offered again."""
        return (unit for unit in self._next_to_go if unit.digest not in self._gone)

    def _all(self) -> Iterator[InitialUnit]:
        for number in self._numbers:
            yield from map(InitialUnit, unit_digests(number), _FILE_BYTES)


@cache
def _set_digest(model_number: int) -> UnitSetDigest:
    return UnitSetDigest.of(unit_digests(model_number))
