"""The bytes of a stage in the order in which it needs them, handed to copying threads as they come.

One thread at a time waits for the next bytes; the others wait behind it, so that however many
threads copy, one looks at the unit files.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from libs.common.weights.manifest import UnitEntry
from services.worker.runtime.cuda.address import address_of


class ArrivingUnit(Protocol):
    """A unit whose bytes are arriving: `UnitReader`."""

    @property
    def data(self) -> memoryview: ...

    @property
    def verified_bytes(self) -> int: ...

    def wait_prefix(self, nbytes: int, deadline_s: float) -> None: ...


@dataclass(frozen=True)
class Piece:
    unit: UnitEntry
    start: int  # in the unit
    num_bytes: int
    source: int  # address of the first byte, on the host
    owner: ArrivingUnit  # keeps it mapped


class PieceQueue:
    """`open_unit` waits for a unit's file; `take` raises what it or the reader raises."""

    def __init__(
        self,
        units: Iterable[UnitEntry],
        open_unit: Callable[[UnitEntry], ArrivingUnit],
        *,
        max_bytes: int,
        deadline_s: float,
    ) -> None:
        self._units = iter(units)
        self._open_unit, self._max_bytes, self._deadline_s = open_unit, max_bytes, deadline_s
        self._taking = threading.Lock()
        self._unit: UnitEntry | None = next(self._units, None)
        self._reader: ArrivingUnit | None = None
        self._address = self._start = 0

    def take_ready(self) -> Piece | None:
        """The next piece if it is there already."""
        if not self._taking.acquire(blocking=False):
            return None  # somebody waits in there, so nothing is there
        try:
            if self._reader is None or self._reader.verified_bytes <= self._start:
                return None
            return self._take()
        finally:
            self._taking.release()

    def take(self) -> Piece | None:
        """The next piece, waited for; None after the last one."""
        with self._taking:
            return self._take()

    def _take(self) -> Piece | None:
        if self._unit is None:
            return None
        if self._reader is None:
            self._reader = self._open_unit(self._unit)
            self._address = address_of(self._reader.data)
        unit, reader, start = self._unit, self._reader, self._start
        reader.wait_prefix(start + 1, self._deadline_s)
        end = min(reader.verified_bytes, start + self._max_bytes)
        self._start = end
        if end == unit.size_bytes:
            self._unit, self._reader, self._start = next(self._units, None), None, 0
        return Piece(unit, start, end - start, self._address + start, reader)
