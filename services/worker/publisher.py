"""Sends an endpoint's tokens to their gateways without ever holding up who produces them."""

import asyncio
import logging

from libs.common.bus import Bus
from libs.common.errors import BusError
from libs.common.messages import TokensGenerated
from libs.common.subjects import REQUEST_TOKENS

logger = logging.getLogger(__name__)

MAX_OUTGOING = 2048  # token messages that wait for the bus
PUBLISH_TIMEOUT_S = 5.0


class TokenPublisher:
    """What does not fit is left out: the gateway sees the gap and asks the token log again."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: asyncio.Queue[TokensGenerated] = asyncio.Queue(MAX_OUTGOING)

    def put(self, tokens: TokensGenerated) -> None:
        try:
            self._waiting.put_nowait(tokens)
        except asyncio.QueueFull:
            logger.warning("%s: the bus is slow, tokens left out", tokens.request_id)

    async def run(self) -> None:
        """Publish in order until cancelled."""
        while True:
            await self._publish(await self._waiting.get())

    async def _publish(self, tokens: TokensGenerated) -> None:
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                await self._bus.publish(REQUEST_TOKENS, tokens.request_id, tokens)
        except (BusError, TimeoutError) as exc:
            logger.warning("%s: tokens not published: %s", tokens.request_id, exc or "timeout")
