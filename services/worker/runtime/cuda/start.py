"""Begins to load a stage's weights onto its GPU, before anything heavy is imported."""

import logging
from collections.abc import Callable

from libs.common.states import FetchClass
from services.worker.errors import DriverLacks, WeightsUnavailable
from services.worker.frames.frames import StartWorker
from services.worker.runtime.cuda.driver import Driver
from services.worker.runtime.cuda.libcuda import LibCuda
from services.worker.runtime.cuda.loading import AT_ONCE, IN_BACKGROUND, DeviceLoading, UnitSource
from services.worker.runtime.start_steps import StartSteps

logger = logging.getLogger(__name__)


def start_loading(
    start: StartWorker,
    mapper: UnitSource,
    steps: StartSteps,
    failed: Callable[[WeightsUnavailable], None],
    load_driver: Callable[[], Driver] = LibCuda,
) -> DeviceLoading | None:
    """None where the driver lacks something: then torch copies what has arrived."""
    try:
        driver = load_driver()
    except DriverLacks as exc:
        logger.warning("torch will copy the weights, the driver cannot be used: %s", exc)
        return None
    is_urgent = start.fetch_class is FetchClass.INTERACTIVE
    loading = DeviceLoading(
        driver,
        mapper,
        start.unit_digests,
        device_uuid=start.device_uuid,
        pace=AT_ONCE if is_urgent else IN_BACKGROUND,
        steps=steps,
        failed=failed,
    )
    loading.start()
    return loading
