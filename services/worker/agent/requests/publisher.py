"""Sends an endpoint's tokens to their gateways without ever holding up who produces them."""

import asyncio
import logging

from libs.common.bus.bus import Bus
from libs.common.bus.messages import TokensGenerated
from libs.common.bus.subjects import REQUEST_TOKENS
from libs.common.errors import BusError

logger = logging.getLogger(__name__)

MAX_OUTGOING = 2048  # token messages that wait for the bus
MAX_OUTGOING_VALUES = 2**17  # tokens and alternatives in them: with 20 of these, 20 MB
PUBLISH_TIMEOUT_S = 5.0


class TokenPublisher:
    """What does not fit is left out: the gateway sees the gap and asks the token log again."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: asyncio.Queue[TokensGenerated] = asyncio.Queue(MAX_OUTGOING)
        self._num_values = 0  # in the messages that wait

    def put(self, tokens: TokensGenerated) -> bool:
        """False if it was left out."""
        num_values = _num_values(tokens)
        if self._waiting.full() or self._num_values + num_values > MAX_OUTGOING_VALUES:
            logger.warning("%s: the bus is slow, tokens left out", tokens.request_id)
            return False
        self._waiting.put_nowait(tokens)
        self._num_values += num_values
        return True

    async def run(self) -> None:
        """Publish in order until cancelled."""
        while True:
            tokens = await self._waiting.get()
            self._num_values -= _num_values(tokens)
            await self._publish(tokens)

    async def _publish(self, tokens: TokensGenerated) -> None:
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                await self._bus.publish(REQUEST_TOKENS, tokens.request_id, tokens)
        except (BusError, TimeoutError) as exc:
            logger.warning("%s: tokens not published: %s", tokens.request_id, exc or "timeout")


def _num_values(tokens: TokensGenerated) -> int:
    return len(tokens.ids) + sum(len(entry.top) for entry in tokens.logprobs or ())
