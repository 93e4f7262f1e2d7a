"""The weights of a stage on their way to the GPU, beside the import of torch. Stdlib only.

A few threads follow the unit files while these arrive and copy them into one allocation of exactly
the stage's bytes. When an error ends that, the process is told to fail with the driver's words. One
is no error: where page-locked memory is scarce, such as in a container with a low limit, fewer
threads copy, and where not even the first one gets its buffers, all is left to torch.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from libs.common.errors import UnitFileError
from libs.common.gpu_uuid import bare_uuid
from libs.common.weights.manifest import Manifest, UnitEntry
from services.worker.errors import (
    DeviceCopyFailed,
    DriverError,
    WeightsNotDelivered,
    WeightsUnavailable,
)
from services.worker.runtime.cuda.copy_progress import CopyProgress
from services.worker.runtime.cuda.driver import Driver
from services.worker.runtime.cuda.layout import SlabLayout, plan_slab
from services.worker.runtime.cuda.piece_queue import ArrivingUnit, Piece, PieceQueue
from services.worker.runtime.cuda.staging import BUFFER_BYTES, Staging
from services.worker.runtime.start_steps import StartSteps

logger = logging.getLogger(__name__)


class UnitSource(Protocol):
    """Where the unit files come from: `UnitMapper`."""

    @property
    def deadline_s(self) -> float: ...

    def manifest(self) -> Manifest: ...

    def mapped(self, unit: UnitEntry, timeout_s: float) -> ArrivingUnit: ...

    def release(self, unit: UnitEntry) -> None: ...


@dataclass(frozen=True)
class CopyPriority:
    num_threads: int
    is_urgent: bool  # ahead of other copies on the device
    rest_ratio: float  # idle time after each piece, in units of the time that it took


# One thread of Python copies 9 GB/s, four 30 GB/s.
AT_ONCE: Final = CopyPriority(num_threads=4, is_urgent=True, rest_ratio=0.0)
# For weights that nobody waits for, on a node that serves: a quarter of one thread's rate.
IN_BACKGROUND: Final = CopyPriority(num_threads=1, is_urgent=False, rest_ratio=3.0)


@dataclass(frozen=True)
class Slab:
    pointer: int  # on the device
    layout: SlabLayout


class DeviceLoading:
    """`failed` is called in a thread of its own, once at least, when the weights cannot be had."""

    def __init__(
        self,
        driver: Driver,
        mapper: UnitSource,
        unit_digests: Sequence[str],
        *,
        device_uuid: str | None = None,
        pace: CopyPriority,
        steps: StartSteps,
        failed: Callable[[WeightsUnavailable], None],
        buffer_bytes: int = BUFFER_BYTES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._driver, self._mapper, self._unit_digests = driver, mapper, unit_digests
        self._device_uuid = device_uuid  # the one that the plan means; None: whichever is shown
        self._pace, self._steps, self._failed = pace, steps, failed
        self._buffer_bytes, self._sleep = buffer_bytes, sleep
        self._settled = threading.Event()  # the slab is there, or it is known that it never will be
        self._is_left_to_torch = False
        self._slab: Slab | None = None
        self._arrivals: CopyProgress | None = None
        self._failure: WeightsUnavailable | None = None
        self._copying_since_s = 0.0

    def start(self) -> None:
        self._spawn(self._load, 0)

    @property
    def is_complete(self) -> bool:
        """Whether everything is on the device."""
        return self._arrivals is not None and self._arrivals.is_complete

    def slab(self) -> Slab | None:
        """Waits until it is allocated, not until it is filled. Raises WeightsUnavailable.

        None where nothing will be copied here: torch has to.
        """
        self._settled.wait(max(0.0, self._mapper.deadline_s - time.monotonic()))
        if self._slab is None and not self._is_left_to_torch:
            late = WeightsUnavailable("the GPU was not ready before the deadline")
            raise self._failure or late
        return self._slab

    def wait(self, unit: UnitEntry, deadline_s: float) -> None:
        """Until the unit is in the slab. Raises WeightsUnavailable."""
        self.slab()
        assert self._arrivals is not None, "there is a slab"
        self._arrivals.wait(unit, deadline_s)

    # ---------------------------------------------------------------- its threads

    def _spawn(self, work: Callable[[], None], index: int) -> None:
        name = f"device-copy-{index}"
        threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True).start()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except WeightsUnavailable as exc:
            self._fail(exc)
        except UnitFileError as exc:
            self._fail(WeightsNotDelivered(str(exc)))
        except DriverError as exc:
            self._fail(DeviceCopyFailed(str(exc)))
        except Exception as exc:  # also a bug of ours must not leave others waiting
            self._fail(WeightsUnavailable(f"the weights did not reach the GPU: {exc!r}"))

    def _fail(self, failure: WeightsUnavailable) -> None:
        self._failure = self._failure or failure
        if self._arrivals is not None:
            self._arrivals.fail(failure)
        self._settled.set()
        self._failed(failure)

    def _load(self) -> None:
        with self._steps.step("device_context"):
            self._check_device()
            self._driver.open_context()
        try:
            staging = self._open_staging()
        except DriverError as exc:
            self._leave_to_torch(exc)
            return
        units = self._units()
        pieces = self._open_slab(units)
        for index in range(1, self._pace.num_threads):
            self._spawn(partial(self._help, pieces), index)
        self._copy(pieces, staging)

    def _check_device(self) -> None:
        """What was reserved is another GPU's memory if CUDA shows another one."""
        if self._device_uuid is None:
            return
        shown = self._driver.visible_uuids()
        if shown != (bare_uuid(self._device_uuid),):
            raise DeviceCopyFailed(
                f"CUDA shows this process {', '.join(shown) or 'no GPU'}, not {self._device_uuid}"
            )

    def _help(self, pieces: PieceQueue) -> None:
        """Of the threads beside the first: the copy goes on without them."""
        try:
            self._driver.enter()
            staging = self._open_staging()
        except DriverError as exc:
            logger.warning("one thread less copies the weights: %s", exc)
            return
        self._copy(pieces, staging)

    def _open_staging(self) -> Staging:
        return Staging(
            self._driver, is_urgent=self._pace.is_urgent, buffer_bytes=self._buffer_bytes
        )

    def _leave_to_torch(self, cause: DriverError) -> None:
        logger.warning("torch will copy the weights, there are no buffers for it here: %s", cause)
        self._is_left_to_torch = True
        self._settled.set()

    def _units(self) -> tuple[UnitEntry, ...]:
        known = self._mapper.manifest().units_by_digest
        try:
            return tuple(known[digest] for digest in dict.fromkeys(self._unit_digests))
        except KeyError as exc:
            raise WeightsUnavailable(f"the manifest has no unit {exc}") from exc

    def _open_slab(self, units: Sequence[UnitEntry]) -> PieceQueue:
        layout = plan_slab(units)
        self._arrivals = CopyProgress(
            units, unit_copied=self._mapper.release, reached=self._note_share
        )
        pointer = self._driver.allocate_device(layout.size_bytes)
        self._copying_since_s = self._steps.begin("device_copy")
        self._slab = Slab(pointer, layout)
        self._settled.set()
        return PieceQueue(
            units,
            self._open_unit,
            max_bytes=self._buffer_bytes,
            deadline_s=self._mapper.deadline_s,
        )

    def _open_unit(self, unit: UnitEntry) -> ArrivingUnit:
        return self._mapper.mapped(unit, self._mapper.deadline_s - time.monotonic())

    def _copy(self, pieces: PieceQueue, staging: Staging) -> None:
        while (piece := self._next(pieces, staging)) is not None:
            started_s = time.monotonic()
            self._begin(piece, staging)
            if self._pace.rest_ratio:
                staging.finish()
                self._sleep(self._pace.rest_ratio * (time.monotonic() - started_s))
        staging.finish()

    def _next(self, pieces: PieceQueue, staging: Staging) -> Piece | None:
        if (piece := pieces.take_ready()) is None:
            staging.finish()  # while bytes are waited for, those before them are told
            piece = pieces.take()
        return piece

    def _begin(self, piece: Piece, staging: Staging) -> None:
        assert self._slab is not None
        target = self._slab.pointer + self._slab.layout.offsets[piece.unit.digest] + piece.start

        staging.copy(piece.source, target, piece.num_bytes, partial(self._note_copied, piece))

    def _note_copied(self, piece: Piece) -> None:
        assert self._arrivals is not None
        self._arrivals.note(piece.unit, piece.num_bytes)

    def _note_share(self, share: float) -> None:
        self._steps.ended(f"device_copy.copied_{share:.0%}", self._copying_since_s)
        if share == 1.0:
            self._steps.ended("device_copy", self._copying_since_s)
