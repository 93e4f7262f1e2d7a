"""A subscription at the NATS server, and how NATS errors become ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import nats.errors
from nats.aio.subscription import Subscription

from libs.common.errors import BusError


class NatsSubscription:
    """The bus's subscription over one of the NATS library."""

    def __init__(self, name: str, subscription: Subscription) -> None:
        self._name, self._subscription = name, subscription

    async def unsubscribe(self) -> None:
        """Raises BusError, also when the connection has ended and the subscription with it."""
        with as_bus_error(self._name):
            await self._subscription.unsubscribe()


@contextmanager
def as_bus_error(name: str) -> Iterator[None]:
    """`name` is the subject that it concerns."""
    try:
        yield
    except (nats.errors.Error, OSError) as exc:
        raise BusError(name, str(exc) or type(exc).__name__) from exc
