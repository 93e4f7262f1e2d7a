"""Telling the scheduler what this node holds: on every change, and each second."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from libs.common.bus.bus import Bus
from libs.common.bus.messages import FetcherHeartbeat
from libs.common.bus.subjects import NODE_FETCHER_HEARTBEAT
from libs.common.errors import BusError
from services.fetcher.desired import Signal

logger = logging.getLogger(__name__)

PERIOD_S = 1.0
_PUBLISH_TIMEOUT_S = 2.0
_COALESCE_S = 0.02  # a burst of changes is one message


async def send_heartbeats(
    observe: Callable[[], FetcherHeartbeat],
    sent: Callable[[FetcherHeartbeat], None],
    changed: Signal,
    bus: Bus,
    health_file: Path | None,
) -> None:
    """For ever. `sent` is called with each heartbeat that the bus has taken.

    The health file says that this loop turns, whether or not the bus is there.
    """
    while True:
        seen_version = changed.version
        await _publish(observe, sent, bus)
        if health_file is not None:
            health_file.touch()  # noqa: ASYNC240 - one system call on a local file
        await asyncio.sleep(_COALESCE_S)
        await changed.wait(seen_version, PERIOD_S)


async def touch_health_file(path: Path) -> None:
    """For ever, where there is nothing to tell the scheduler."""
    while True:
        path.touch()  # noqa: ASYNC240 - one system call on a local file
        await asyncio.sleep(PERIOD_S)


async def _publish(
    observe: Callable[[], FetcherHeartbeat], sent: Callable[[FetcherHeartbeat], None], bus: Bus
) -> None:
    if not bus.is_connected:
        return  # a buffered heartbeat would be old news when it arrives
    message = observe()
    try:
        async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
            await bus.publish(NODE_FETCHER_HEARTBEAT, message.node_id, message)
    except (BusError, TimeoutError) as exc:
        logger.warning("a heartbeat was not sent: %s", exc or "timeout")
        return
    sent(message)
