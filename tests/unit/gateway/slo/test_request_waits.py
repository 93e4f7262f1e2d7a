"""What a request waits for, as it learns of it from the bus, on a clock that stands still."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Literal

import pytest_asyncio

from libs.common.bus.messages import RequestAssigned, RequestProgressed, TokensGenerated
from libs.common.bus.subjects import REQUEST_ASSIGNED, REQUEST_PROGRESS, REQUEST_TOKENS
from libs.common.states import FinishReason
from libs.common.testing.bus import FakeClock, MemoryBroker, MemoryBus
from services.gateway.generation.request_inbox import RequestInbox
from services.gateway.generation.token_log import TokenLog
from services.gateway.slo.engine_clock import EngineTimes
from services.gateway.slo.wait_log import WaitFor
from tests.support.waiting import eventually
from tests.unit.gateway.tiny import model_entry
from tests.unit.gateway.world import gateway_world

Phase = Literal["queued", "planned", "fetching", "starting", "ready"]


@dataclass
class Asked:
    """A request's inbox and whoever speaks to it; it has arrived when its clock began."""

    inbox: RequestInbox
    bus: MemoryBus
    clock: FakeClock
    began_s: float

    async def assigned(self, *, is_starting: bool, attempt: int = 1) -> None:
        message = RequestAssigned(
            request_id="req-1",
            attempt=attempt,
            endpoint_id="ep-1",
            epoch=1,
            is_starting=is_starting,
        )
        await self.bus.publish(REQUEST_ASSIGNED, "req-1", message)
        await eventually(lambda: self.inbox.assigned == message)

    async def told(self, phase: Phase) -> None:
        message = RequestProgressed(request_id="req-1", phase=phase)
        await self.bus.publish(REQUEST_PROGRESS, "req-1", message)
        await eventually(lambda: self.inbox.progress == message)

    async def given(self, index: int, *, finish: bool = False, attempt: int = 1) -> None:
        message = TokensGenerated(
            request_id="req-1",
            attempt=attempt,
            start_index=index,
            ids=(7,),
            finish=FinishReason.STOP if finish else None,
            first_token_ms=300 if index == 0 else None,
            finish_ms=900 if finish else None,
        )
        await self.bus.publish(REQUEST_TOKENS, "req-1", message)
        await eventually(lambda: self.inbox.log.next_index == index + 1)

    def spent(self) -> Mapping[str, float]:
        seconds = self.inbox.waits.seconds(self.began_s, self.clock.monotonic_s())
        return {waits_for.value: each for waits_for, each in seconds.items() if each > 0}


@pytest_asyncio.fixture
async def asked() -> AsyncIterator[Asked]:
    broker, clock = MemoryBroker(), FakeClock()
    receiver, sender = broker.bus(), broker.bus()
    log = TokenLog(max_unread_tokens=100, max_unread_bytes=10_000)
    async with RequestInbox(receiver, "req-1", log, clock, lambda _attempt: None) as inbox:
        yield Asked(inbox, sender, clock, clock.monotonic_s())
    await receiver.close()
    await sender.close()


async def test_a_cold_request_waits_for_an_endpoint_its_start_its_weights_and_the_engine(
    asked: Asked,
) -> None:
    """1 s in the queue, 2 s until bytes come, 8 s of them, 4 s until ready, 0.5 s of prefill."""
    asked.clock.advance(1.0)
    await asked.assigned(is_starting=True)
    for phase, seconds in (("planned", 2.0), ("fetching", 8.0), ("starting", 4.0), ("ready", 0.5)):
        await asked.told(phase)  # type: ignore[arg-type] # one of the phases
        asked.inbox.note_sent(asked.clock.monotonic_s())  # again, until its entry listens
        asked.clock.advance(seconds)
    await asked.given(0)

    assert asked.spent() == {"endpoint": 1.0, "start": 6.0, "weights": 8.0, "engine": 0.5}


async def test_a_warm_request_waits_for_the_engine_from_when_it_was_sent(asked: Asked) -> None:
    asked.clock.advance(0.25)
    asked.inbox.note_sent(asked.clock.monotonic_s())
    asked.clock.advance(2.0)
    await asked.given(0)

    assert asked.spent() == {"endpoint": 0.25, "engine": 2.0}


async def test_a_request_that_no_endpoint_takes_is_in_the_queue_again(asked: Asked) -> None:
    """Half a second without an answer is the network's; then 3 s in the queue."""
    asked.inbox.note_sent(asked.clock.monotonic_s())
    asked.clock.advance(0.5)
    asked.inbox.note_not_taken(asked.clock.monotonic_s())
    asked.clock.advance(3.0)

    assert asked.spent() == {"engine": 0.5, "endpoint": 3.0}


async def test_what_the_scheduler_says_after_the_first_token_is_out_of_date(asked: Asked) -> None:
    await asked.assigned(is_starting=True)
    asked.clock.advance(2.0)
    await asked.given(0)
    await asked.told("starting")
    asked.clock.advance(1.0)
    await asked.given(1, finish=True)

    assert asked.spent() == {"start": 2.0, "engine": 1.0}
    assert asked.inbox.engine_clock.times == EngineTimes(0.3, 0.6)


async def test_that_an_endpoint_is_ready_says_nothing_to_who_has_none(asked: Asked) -> None:
    await asked.told("ready")
    asked.clock.advance(2.0)

    assert asked.spent() == {"endpoint": 2.0}


async def test_what_was_said_of_an_earlier_attempt_or_of_the_queue_comes_too_late(
    asked: Asked,
) -> None:
    asked.inbox.begin_attempt(asked.clock.monotonic_s())
    await asked.assigned(is_starting=True, attempt=1)
    asked.clock.advance(1.0)
    asked.inbox.note_sent(asked.clock.monotonic_s())
    await asked.told("queued")
    asked.clock.advance(2.0)

    assert asked.spent() == {"endpoint": 1.0, "engine": 2.0}


async def test_a_start_that_failed_leads_back_to_the_queue(asked: Asked) -> None:
    await asked.assigned(is_starting=True)
    asked.clock.advance(2.0)
    await asked.told("queued")
    asked.clock.advance(3.0)
    asked.inbox.begin_attempt(asked.clock.monotonic_s())
    await asked.assigned(is_starting=True, attempt=2)
    asked.clock.advance(4.0)

    assert asked.spent() == {"start": 6.0, "endpoint": 3.0}


async def test_the_next_attempt_after_some_tokens_waits_for_an_endpoint_again(asked: Asked) -> None:
    asked.inbox.note_sent(asked.clock.monotonic_s())
    await asked.given(0)
    asked.clock.advance(1.0)
    asked.inbox.begin_attempt(asked.clock.monotonic_s())
    asked.clock.advance(2.0)
    asked.inbox.note_sent(asked.clock.monotonic_s())
    asked.clock.advance(4.0)
    await asked.given(1, attempt=2)

    assert asked.spent() == {"engine": 5.0, "endpoint": 2.0}
    assert asked.inbox.waits.waits_for is WaitFor.ENGINE


async def test_the_row_of_a_request_has_its_targets_its_times_and_why_it_was_late() -> None:
    """It is assigned only once it has been asked for again, after 0.2 s; its target is 1 ms."""
    entry = model_entry(slo_ttft_ms=1, slo_tpot_ms=600_000)
    async with gateway_world(entries=[entry]) as world:
        world.scheduler.is_assigning = False
        asking = asyncio.create_task(world.chat(max_tokens=4))
        await eventually(lambda: len(world.scheduler.listed) >= 2)
        world.scheduler.is_assigning = True
        await asking
        await eventually(lambda: len(world.writer.ended) == 1)

        row = world.writer.ended[0]
    assert (row.slo_ttft_ms, row.slo_tpot_ms) == (1, 600_000)
    assert row.ttft_ms is not None and row.ttft_ms > 200
    assert row.tpot_ms is not None and row.tpot_ms >= 0
    assert (row.is_slo_met, row.slo_miss) == (False, "queue")
