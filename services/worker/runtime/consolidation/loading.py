"""The weights of the layers that a stage lacks, and the memory for packed copies of all."""

import time
from collections.abc import Callable
from pathlib import Path

from libs.common.weights.unitclient import WantedUnits
from services.worker.errors import WeightsUnavailable
from services.worker.frames.consolidation import Consolidate
from services.worker.frames.frames import StartWorker, ToAgent
from services.worker.runtime.consolidation.report import STEP_PREFIX
from services.worker.runtime.start_steps import StartSteps
from services.worker.runtime.unit_mapper import UnitMapper


def lacking_units(
    start: StartWorker, frame: Consolidate, send: Callable[[ToAgent], None]
) -> UnitMapper:
    """Maps them as they arrive; not started yet. `send` is told its steps."""
    return UnitMapper(
        Path(start.fetcher_socket),
        WantedUnits(start.manifest_digest, frame.unit_digests),
        deadline_s=time.monotonic() + frame.timeout_ms / 1000,
        steps=StartSteps(send, STEP_PREFIX),
        failed=_left_to_the_engine,
    )


def whole_packed_bytes(start: StartWorker, frame: Consolidate) -> int:
    """For packed copies of all weights, as EngineOptions has them."""
    return max(0, start.device_bytes - frame.kv_bytes) if start.device == "cpu" else 0


def _left_to_the_engine(error: WeightsUnavailable) -> None:
    """It asks for the units again and again, and hears of it then."""
