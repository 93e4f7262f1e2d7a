"""Sends heartbeats to the scheduler and touches the health file for a supervisor."""

import asyncio
import logging
from pathlib import Path

from libs.common.bus.bus import Bus
from libs.common.bus.messages import GatewayHeartbeat
from libs.common.bus.subjects import GATEWAY_HEARTBEAT
from libs.common.errors import BusError
from services.gateway.generation.dispatcher import Dispatcher

logger = logging.getLogger(__name__)

HEALTH_FILE_S = 1.0
COALESCE_S = 0.02


async def send_heartbeats(
    bus: Bus, dispatcher: Dispatcher, gateway_id: str, interval_s: float
) -> None:
    """Until cancelled. Requests of a gateway that is silent for 10 s end as `gateway_lost`.

    At once when a request has a token for whose like others wait.
    """
    while True:
        message = GatewayHeartbeat(
            gateway_id=gateway_id,
            request_ids=dispatcher.open_ids,
            progressed=dispatcher.progressed_attempts,
        )
        try:
            await bus.publish(GATEWAY_HEARTBEAT, gateway_id, message)
        except BusError as exc:
            logger.warning("a heartbeat was not sent: %s", exc)
        await asyncio.sleep(COALESCE_S)
        if dispatcher.progressed_attempts == message.progressed:
            await dispatcher.progressed.wait(interval_s)


async def touch_health_file(path: Path) -> None:
    """Until cancelled. A file that grows old says that the event loop stands still."""
    while True:
        _touch(path)
        await asyncio.sleep(HEALTH_FILE_S)


def _touch(path: Path) -> None:
    """Microseconds on a local disk: not worth a thread."""
    path.touch()
