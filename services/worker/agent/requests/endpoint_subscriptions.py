"""What an endpoint hears on the bus: requests until its worker has gone, the rest until every end
is acknowledged."""

import logging

from libs.common.bus.bus import Bus, Subscription
from libs.common.bus.handling import Handler, M
from libs.common.bus.subjects import Subject
from libs.common.errors import BusError

logger = logging.getLogger(__name__)


class EndpointSubscriptions:
    def __init__(self, bus: Bus, endpoint_id: str) -> None:
        self._bus, self._endpoint_id = bus, endpoint_id
        self._intake: list[Subscription] = []
        self._others: list[Subscription] = []

    async def add(self, subject: Subject, handler: Handler[M], *, is_intake: bool = False) -> None:
        """Raises BusError."""
        kept = self._intake if is_intake else self._others
        kept.append(await self._bus.subscribe(subject, self._endpoint_id, handler))

    async def stop_intake(self) -> None:
        await self._end(self._intake)

    async def close(self) -> None:
        await self._end(self._intake)
        await self._end(self._others)

    async def _end(self, subscriptions: list[Subscription]) -> None:
        while subscriptions:
            try:
                await subscriptions.pop().unsubscribe()
            except BusError as exc:  # the others have to end all the same
                logger.warning("a subscription of %s was not ended: %s", self._endpoint_id, exc)
