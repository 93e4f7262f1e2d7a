"""Telling the scheduler what this node holds: on every change, and each second."""

import asyncio
import logging
from pathlib import Path
from typing import Protocol

from libs.common.bus.bus import Bus
from libs.common.bus.messages import FetcherHeartbeat
from libs.common.bus.subjects import NODE_FETCHER_HEARTBEAT
from libs.common.errors import BusError
from services.fetcher.desired import Signal

logger = logging.getLogger(__name__)

PERIOD_S = 1.0
_PUBLISH_TIMEOUT_S = 2.0
_PROGRESS_PERIOD_S = 0.25  # between two heartbeats that tell nothing but progress
_COALESCE_S = 0.02  # a burst of changes is one message


class FetcherState(Protocol):
    """What is told."""

    def heartbeat(self) -> FetcherHeartbeat:
        """The next one of this boot."""

    def was_sent(self, heartbeat: FetcherHeartbeat) -> None:
        """The bus has taken it."""

    @property
    def milestones(self) -> object:
        """What somebody may wait for; while it is the same, only progress is told."""


async def send_heartbeats(
    state: FetcherState, changed: Signal, bus: Bus, health_file: Path | None
) -> None:
    """For ever: at once for what somebody waits for, a few times a second for progress, which is
    only told to people: each heartbeat of a thousand nodes is work for the leader.

    The health file says that this loop turns, whether or not the bus is there.
    """
    while True:
        seen_version, milestones = changed.version, state.milestones
        await _publish(state, bus)
        if health_file is not None:
            health_file.touch()  # noqa: ASYNC240 - one system call on a local file
        await asyncio.sleep(_COALESCE_S)
        await _until_due(state, changed, seen_version, milestones)


async def _until_due(
    state: FetcherState, changed: Signal, seen_version: int, milestones: object
) -> None:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    due_s = began_s + PERIOD_S
    while state.milestones == milestones and (left_s := due_s - loop.time()) > 0:
        await changed.wait(seen_version, left_s)
        if changed.version != seen_version:
            seen_version, due_s = changed.version, min(due_s, began_s + _PROGRESS_PERIOD_S)


async def touch_health_file(path: Path) -> None:
    """For ever, where there is nothing to tell the scheduler."""
    while True:
        path.touch()  # noqa: ASYNC240 - one system call on a local file
        await asyncio.sleep(PERIOD_S)


async def _publish(state: FetcherState, bus: Bus) -> None:
    if not bus.is_connected:
        return  # a buffered heartbeat would be old news when it arrives
    message = state.heartbeat()
    try:
        async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
            await bus.publish(NODE_FETCHER_HEARTBEAT, message.node_id, message)
    except (BusError, TimeoutError) as exc:
        logger.warning("a heartbeat was not sent: %s", exc or "timeout")
        return
    state.was_sent(message)
