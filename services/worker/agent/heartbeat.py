"""Telling the scheduler what the agent observes: on every change, and each second."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from libs.common.bus.bus import Bus
from libs.common.bus.messages import AgentHeartbeat
from libs.common.bus.subjects import NODE_AGENT_HEARTBEAT
from libs.common.errors import BusError
from services.worker.agent.heartbeat_trigger import HeartbeatTrigger

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0
COALESCE_S = 0.02  # changes come in swarms; the second heartbeat tells all but the first
PUBLISH_TIMEOUT_S = 2.0


async def send_heartbeats(
    observe: Callable[[], AgentHeartbeat],
    sent: Callable[[AgentHeartbeat], None],
    trigger: HeartbeatTrigger,
    bus: Bus,
    health_file: Path,
) -> None:
    """Run until cancelled. `sent` is called with each heartbeat that the bus has taken.

    The health file says that this loop turns. It does not depend on the bus: an agent restarted
    because the bus is away would take its workers with it.
    """
    while True:
        health_file.touch()  # noqa: ASYNC240 - one system call on a local file
        trigger.clear()  # what changes from here on is told by the next one
        await _publish(observe, sent, bus)
        await asyncio.sleep(COALESCE_S)  # after it: what changes first is told at once
        with suppress(TimeoutError):  # nothing new for an interval
            async with asyncio.timeout(INTERVAL_S):
                await trigger.wait()


async def _publish(
    observe: Callable[[], AgentHeartbeat], sent: Callable[[AgentHeartbeat], None], bus: Bus
) -> None:
    if not bus.is_connected:
        return  # a buffered heartbeat would be out of date when it arrives
    message = observe()
    try:
        async with asyncio.timeout(PUBLISH_TIMEOUT_S):
            await bus.publish(NODE_AGENT_HEARTBEAT, message.node_id, message)
    except (BusError, TimeoutError) as exc:
        logger.warning("a heartbeat was not sent: %s", exc or "timeout")
        return
    sent(message)
