"""Asks the driver again and again what processes take of a GPU."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial

from services.worker.agent.devices.device import Device
from services.worker.agent.devices.nvml import Nvml
from services.worker.errors import DeviceError

logger = logging.getLogger(__name__)

INTERVAL_S = 5.0

Note = Callable[[int, Mapping[int, int]], None]  # (device's index, bytes by process id)


async def measure_regularly(
    device: Device, note: Note, nvml: Nvml | None = None, interval_s: float = INTERVAL_S
) -> None:
    """Until the driver does not answer: then nobody is told any more."""
    assert device.uuid is not None
    ask = partial((nvml or Nvml()).process_bytes, device.uuid)
    while True:
        await asyncio.sleep(interval_s)
        try:
            used_bytes = await asyncio.to_thread(ask)
        except DeviceError as exc:
            logger.warning("what workers take of a GPU is not measured: %s", exc)
            return
        note(device.index, used_bytes)
