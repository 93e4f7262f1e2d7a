"""Maps a worker's units and watches them arrive, in a thread beside the import of torch.

Stdlib only. What becomes of the mapped bytes is decided in `parameters.py`.
"""

import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from libs.common.errors import HydraError
from libs.common.weights.manifest import Manifest, UnitEntry, UnitKind
from libs.common.weights.unitclient import UnitSession, WantedUnits
from libs.common.weights.unitfile import UnitReader
from services.worker.errors import WeightsNotDelivered, WeightsUnavailable
from services.worker.runtime.start_steps import StartSteps


class UnitMapper:
    """`failed` is called once, in the mapper's own thread, when the weights cannot be had."""

    def __init__(
        self,
        socket_path: Path,
        units: WantedUnits,
        *,
        deadline_s: float,
        steps: StartSteps,
        failed: Callable[[WeightsUnavailable], None],
    ) -> None:
        """`deadline_s` is on time.monotonic()."""
        self._deadline_s, self._steps, self._failed = deadline_s, steps, failed
        self._changed = threading.Condition()
        self._manifest: Manifest | None = None
        self._readers: dict[str, UnitReader] = {}  # by digest, without the released ones
        self._mapped_units: list[UnitEntry] = []
        self._failure: WeightsUnavailable | None = None
        self._is_closed = False
        self._session = UnitSession(socket_path, units, deadline_s=deadline_s)
        self._thread = threading.Thread(target=self._run, name="unit-mapper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def deadline_s(self) -> float:
        """On time.monotonic(): by then every byte must be there."""
        return self._deadline_s

    def manifest(self) -> Manifest:
        """Waits for it. Raises WeightsUnavailable at the deadline or when the fetcher refuses."""
        self._wait_until(lambda: self._manifest is not None, "manifest", self._deadline_s)
        assert self._manifest is not None
        return self._manifest

    def unit(self, kind: UnitKind, layer_index: int | None) -> UnitEntry:
        """The manifest's unit of that place. Raises KeyError."""
        for unit in self.manifest().units:
            if (unit.kind, unit.layer_index) == (kind, layer_index):
                return unit
        raise KeyError(f"{kind} {layer_index}")

    @property
    def is_described(self) -> bool:
        """Whether the manifest is there. Raises WeightsUnavailable when it will never be."""
        if self._manifest is None and self._failure is not None:
            raise self._failure
        return self._manifest is not None

    def arrived(self, unit: UnitEntry) -> UnitReader | None:
        """The mapping of a unit that is all there. Waits for nothing.

        Raises WeightsUnavailable when it will never be there.
        """
        reader = self._readers.get(unit.digest)
        if reader is not None and reader.verified_bytes >= unit.size_bytes:
            return reader
        if self._failure is not None:
            raise self._failure
        return None

    def mapped(self, unit: UnitEntry, timeout_s: float) -> UnitReader:
        """Waits until the unit's file is mapped; its bytes may still be arriving.

        Raises WeightsUnavailable.
        """
        deadline_s = min(self._deadline_s, time.monotonic() + timeout_s)
        self._wait_until(lambda: unit.digest in self._readers, f"unit {unit.digest}", deadline_s)
        return self._readers[unit.digest]

    def release(self, unit: UnitEntry) -> None:
        """Forget the mapping; the lease ends with its last reference, and the file may go."""
        with self._changed:
            self._readers.pop(unit.digest, None)

    def close(self) -> None:
        """Nobody needs the units any more: end every wait, forget the mappings. Any thread."""
        self._session.close()
        with self._changed:
            self._is_closed = True
            self._failure = self._failure or WeightsUnavailable("nobody needs these weights")
            for reader in self._readers.values():
                reader.abandon()
            self._readers.clear()
            self._changed.notify_all()

    def _wait_until(self, is_true: Callable[[], bool], what: str, deadline_s: float) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: is_true() or self._failure is not None, deadline_s - time.monotonic()
            )
            if is_true():
                return
            late = WeightsUnavailable(f"{what} was not mapped before the deadline")
            raise self._failure or late

    # ----------------------------------------------------------- in its thread

    def _run(self) -> None:
        try:
            self._map()
            self._watch()
        except HydraError as exc:
            self._give_up(WeightsNotDelivered(str(exc)))
        except BaseException as exc:  # else the worker would wait for this thread for ever
            traceback.print_exc()
            why = f"{type(exc).__name__}: {exc}"
            self._give_up(WeightsUnavailable(f"mapping the weights failed: {why}"))

    def _give_up(self, failure: WeightsUnavailable) -> None:
        with self._changed:
            self._failure = failure
            self._changed.notify_all()
        self._failed(failure)

    def _map(self) -> None:
        with self._steps.step("map_units"):
            manifest = self._session.manifest
            with self._changed:
                self._manifest = manifest
                self._changed.notify_all()
            for reader in self._session.readers():
                with self._changed:
                    if self._is_closed:
                        return
                    self._readers[reader.digest] = reader
                    self._mapped_units.append(manifest.units_by_digest[reader.digest])
                    self._changed.notify_all()

    def _watch(self) -> None:
        """Until every byte is there; only to say when that was, and to fail early."""
        units = self._mapped_units
        num_bytes = sum(unit.size_bytes for unit in units)
        with self._steps.step("weights", f"{len(units)} units, {num_bytes / 1e6:.1f} MB"):
            for unit in units:
                if reader := self._readers.get(unit.digest):  # a released one was complete
                    reader.wait_complete(self._deadline_s)
