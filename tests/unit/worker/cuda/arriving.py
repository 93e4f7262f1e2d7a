"""Units that arrive when a test says so, without files."""

import threading
import time
from dataclasses import dataclass, field
from random import Random

from libs.common.errors import UnitFileTimeout
from libs.common.weights.manifest import Manifest, UnitEntry, UnitKind
from services.worker.errors import WeightsUnavailable

CHUNK_BYTES = 4096


def unit_of(index: int, size_bytes: int) -> UnitEntry:
    return UnitEntry(UnitKind.LAYER, index, f"digest-{index}", size_bytes, CHUNK_BYTES, (), ())


@dataclass
class ArrivingUnit:
    """What `UnitReader` is to its user."""

    unit: UnitEntry
    content: bytes
    verified_bytes: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def data(self) -> memoryview:
        return memoryview(self.content)

    def arrive(self, num_bytes: int | None = None) -> None:
        """So many more bytes, or all."""
        size = self.unit.size_bytes
        with self.changed:
            self.verified_bytes = min(size, self.verified_bytes + (num_bytes or size))
            self.changed.notify_all()

    def wait_prefix(self, nbytes: int, deadline_s: float) -> None:
        with self.changed:
            remaining_s = max(0.0, deadline_s - time.monotonic())
            if not self.changed.wait_for(lambda: self.verified_bytes >= nbytes, remaining_s):
                raise UnitFileTimeout(f"deadline passed; {self.unit.digest} is not there")


class UnitMapperDouble:
    """The port `UnitSource`; every file is there from the beginning, its bytes are not."""

    def __init__(self, *sizes_bytes: int, patience_s: float = 10.0) -> None:
        random = Random(5)
        self.units = tuple(unit_of(i, size) for i, size in enumerate(sizes_bytes))
        self.readers = [ArrivingUnit(u, random.randbytes(u.size_bytes)) for u in self.units]
        self.released: list[UnitEntry] = []
        self.refusal: str | None = None
        self.deadline_s = time.monotonic() + patience_s

    def arrive(self) -> None:
        for reader in self.readers:
            reader.arrive()

    def manifest(self) -> Manifest:
        if self.refusal is not None:
            raise WeightsUnavailable(self.refusal)
        return Manifest("", "{}", "BF16", 1, 1, None, (), 1, (), self.units)

    def mapped(self, unit: UnitEntry, timeout_s: float) -> ArrivingUnit:
        return self.readers[self.units.index(unit)]

    def release(self, unit: UnitEntry) -> None:
        self.released.append(unit)
