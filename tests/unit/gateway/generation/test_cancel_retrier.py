"""Cancellations and acknowledgements are repeated until they are answered or their time is up."""

import asyncio

from libs.common.bus.messages import Acknowledged, CancelRequest
from libs.common.bus.subjects import ENDPOINT_ACKNOWLEDGE, REQUEST_CANCEL
from libs.common.clock import SystemClock
from libs.common.testing.bus import MemoryBroker
from services.gateway.generation.cancel_retrier import CancelRetrier
from services.gateway.generation.endpoint_client import EndpointClient
from services.gateway.settings import Timing
from tests.support.waiting import eventually

TIMING = Timing(retry_s=0.01, repeat_s=0.02, reconnect_grace_s=0.05, cancel_timeout_s=60.0)


async def test_an_endpoint_that_is_gone_is_asked_twice_and_no_more() -> None:
    broker = MemoryBroker()
    cancel_retrier = CancelRetrier(broker.bus(), SystemClock(), TIMING)

    cancel_retrier.acknowledge(EndpointClient(broker.bus(), "endpoint-1", 1, 0.1), "request-1", 1)

    await eventually(lambda: not cancel_retrier._tasks, what="silence")
    assert len(broker.published) == 2


async def test_an_endpoint_that_only_reconnects_still_receives_it() -> None:
    broker, heard = MemoryBroker(), asyncio.Event()
    cancel_retrier = CancelRetrier(broker.bus(), SystemClock(), TIMING)
    cancel_retrier.acknowledge(EndpointClient(broker.bus(), "endpoint-1", 1, 0.1), "request-1", 1)
    await eventually(lambda: broker.published)

    async def hear(_message: object) -> Acknowledged:
        heard.set()
        return Acknowledged(known=True)

    back = await broker.bus().subscribe(ENDPOINT_ACKNOWLEDGE, "endpoint-1", hear)

    await asyncio.wait_for(heard.wait(), 10)
    await eventually(lambda: not cancel_retrier._tasks)
    await back.unsubscribe()


async def test_a_cancellation_to_the_scheduler_is_repeated_until_there_is_a_leader() -> None:
    broker, heard = MemoryBroker(), asyncio.Event()
    cancel_retrier = CancelRetrier(broker.bus(), SystemClock(), TIMING)
    cancel_retrier.cancel_waiting("acme", "request-1", 1)
    await eventually(lambda: len(broker.published) > 3, what="more than two tries")

    async def hear(message: CancelRequest) -> Acknowledged:
        assert message.tenant == "acme", "whose turn it is"
        heard.set()
        return Acknowledged(known=True)

    leader = await broker.bus().subscribe(REQUEST_CANCEL, None, hear)

    await asyncio.wait_for(heard.wait(), 10)
    await eventually(lambda: not cancel_retrier._tasks)
    await leader.unsubscribe()
