"""Asks the driver again and again what processes take of a GPU."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from services.worker.agent.devices import gpu_process_bytes
from services.worker.agent.settings import DeviceSettings
from services.worker.errors import DeviceError

logger = logging.getLogger(__name__)

INTERVAL_S = 5.0

Note = Callable[[int, Mapping[int, int]], None]  # (device's index, bytes by process id)


async def measure_regularly(device: DeviceSettings, note: Note) -> None:
    """Until the driver does not answer: then nobody is told any more."""
    assert device.ordinal is not None
    while True:
        await asyncio.sleep(INTERVAL_S)
        try:
            used_bytes = await asyncio.to_thread(gpu_process_bytes, device.ordinal)
        except DeviceError as exc:
            logger.warning("what workers take of a GPU is not measured: %s", exc)
            return
        note(device.index, used_bytes)
