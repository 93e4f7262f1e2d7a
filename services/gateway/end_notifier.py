"""Tells the leading scheduler that requests have ended, so that queued ones take their slots."""

import logging

from libs.common.bus.bus import Bus
from libs.common.bus.messages import RequestsEnded
from libs.common.bus.subjects import REQUESTS_ENDED
from libs.common.errors import BusError

logger = logging.getLogger(__name__)


class EndNotifier:
    """Hints only: a lost one costs the queue one interval of the scheduler's rounds."""

    def __init__(self, bus: Bus, gateway_id: str) -> None:
        self._bus, self._gateway_id = bus, gateway_id

    async def notify(self, request_ids: tuple[str, ...]) -> None:
        message = RequestsEnded(gateway_id=self._gateway_id, request_ids=request_ids)
        try:
            await self._bus.publish(REQUESTS_ENDED, self._gateway_id, message)
        except BusError as exc:
            logger.info("the end of %d requests was not told: %s", len(request_ids), exc)
