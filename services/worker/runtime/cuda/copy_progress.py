"""Tracks what of a stage is on the device: copying threads note it, the engine's thread waits."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from libs.common.weights.manifest import UnitEntry
from services.worker.errors import WeightsUnavailable

SHARES: Final = (0.25, 0.5, 0.75, 1.0)


class CopyProgress:
    """`unit_copied` and `reached` are called by the thread that noted it.

    The first when all of a unit is there, the second at each of SHARES of the whole.
    """

    def __init__(
        self,
        units: Sequence[UnitEntry],
        *,
        unit_copied: Callable[[UnitEntry], None],
        reached: Callable[[float], None],
    ) -> None:
        self._missing = {unit.digest: unit.size_bytes for unit in units}  # bytes
        self._total_bytes = self._missing_bytes = sum(self._missing.values())
        self._unit_copied, self._reached = unit_copied, reached
        self._shares = list(SHARES)
        self._changed = threading.Condition()
        self._failure: WeightsUnavailable | None = None

    @property
    def is_complete(self) -> bool:
        return self._missing_bytes == 0

    def note(self, unit: UnitEntry, num_bytes: int) -> None:
        with self._changed:
            self._missing[unit.digest] -= num_bytes
            self._missing_bytes -= num_bytes
            assert self._missing[unit.digest] >= 0, "copied once"
            is_copied = self._missing[unit.digest] == 0
            shares = self._take_shares()
            if is_copied:
                self._changed.notify_all()
        if is_copied:
            self._unit_copied(unit)
        for share in shares:
            self._reached(share)

    def fail(self, failure: WeightsUnavailable) -> None:
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify_all()

    def wait(self, unit: UnitEntry, deadline_s: float) -> None:
        """Until the unit is on the device. Raises WeightsUnavailable."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._missing[unit.digest] == 0 or self._failure is not None,
                max(0.0, deadline_s - time.monotonic()),
            )
            if missing := self._missing[unit.digest]:
                late = f"{missing} of {unit.size_bytes} bytes of unit {unit.digest} are not there"
                raise self._failure or WeightsUnavailable(f"deadline passed; {late}")

    def _take_shares(self) -> list[float]:
        copied = self._total_bytes - self._missing_bytes
        reached = [share for share in self._shares if copied >= share * self._total_bytes]
        del self._shares[: len(reached)]
        return reached
