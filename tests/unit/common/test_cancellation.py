"""A cancellation is not lost, whoever swallows it on the way, and the end of tasks is bounded."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from libs.common.bus.bus import NatsBus
from libs.common.bus.messages import CancelRequest, ModelsChanged
from libs.common.bus.subjects import MODELS_CHANGED, REQUEST_CANCEL
from libs.common.cancellation import cancel_all, reraise_cancellation
from libs.common.clock import SystemClock
from libs.common.errors import DatabaseUnavailable
from libs.common.testing.bus import MemoryBroker
from services.fetcher.desired import Signal
from services.gateway.registry.model_registry import ModelRegistry
from tests.support.waiting import eventually
from tests.unit.gateway.stores import FakeModels

TICKS = range(5)  # of the event loop, between what wakes a task and its cancellation


async def cancelled_while(work: Callable[[], Coroutine[Any, Any, None]]) -> "asyncio.Task[None]":
    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=2)
    assert task.done()
    return task


async def until_cancelled_and_then(ends: Callable[[], Awaitable[None]]) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await ends()


async def test_a_cancellation_that_was_swallowed_is_raised_at_the_end_of_the_block() -> None:
    async def work() -> None:
        with reraise_cancellation():
            await until_cancelled_and_then(lambda: asyncio.sleep(0))

    assert (await cancelled_while(work)).cancelled()


async def test_an_error_that_a_cancellation_became_is_a_cancellation_again() -> None:
    async def fail() -> None:
        raise DatabaseUnavailable("the connection was closed in the middle of an operation")

    async def work() -> None:
        with reraise_cancellation():
            await until_cancelled_and_then(fail)

    assert (await cancelled_while(work)).cancelled()


async def test_what_cleans_up_after_a_cancellation_may_go_on_and_fail_by_itself() -> None:
    done: list[str] = []

    async def clean_up() -> None:
        with reraise_cancellation():
            await asyncio.sleep(0)
        done.append("cleaned up")
        with pytest.raises(ValueError), reraise_cancellation():
            raise ValueError("its own")

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await clean_up()

    assert (await cancelled_while(work)).cancelled()
    assert done == ["cleaned up"]


async def test_a_deadline_within_the_block_is_no_cancellation() -> None:
    with reraise_cancellation():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.sleep(60)


async def test_the_wait_for_tasks_that_do_not_end_is_bounded_and_names_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    may_end = asyncio.Event()

    async def stubborn() -> None:
        await until_cancelled_and_then(lambda: _until(may_end))

    async def failing() -> None:
        raise ValueError("nobody asks for it any more")

    tasks = [asyncio.create_task(stubborn(), name="stubborn"), asyncio.create_task(failing())]
    await asyncio.sleep(0)

    await cancel_all(tasks, 0.05)

    assert "the task stubborn did not end within 0.05 s" in caplog.text
    may_end.set()
    await tasks[0]


async def _until(event: asyncio.Event) -> None:
    await event.wait()


class Answering:
    """A client whose calls wait as those of nats-py do."""

    max_payload = 2**20

    def __init__(self) -> None:
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def request(self, *_: object, **__: object) -> None:
        await asyncio.wait_for(self.answer, 60)
        raise AssertionError("the answer came, and nobody was left to read it")


async def test_a_request_that_is_cancelled_just_as_it_is_answered_is_cancelled() -> None:
    client: Any = Answering()
    message = CancelRequest(request_id="request-1", attempt=1)
    asking = asyncio.create_task(
        NatsBus(client).request(REQUEST_CANCEL, None, message, timeout_s=60)
    )
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    client.answer.set_result(None)
    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize("num_ticks", TICKS)
async def test_the_registry_ends_when_it_is_cancelled_just_as_it_wakes(num_ticks: int) -> None:
    broker = MemoryBroker()
    registry = ModelRegistry(FakeModels([]), SystemClock(), 2**20)
    running = asyncio.create_task(registry.run(broker.bus()))
    await eventually(lambda: registry.is_loaded)
    await broker.bus().publish(MODELS_CHANGED, None, ModelsChanged(model_ids=()))

    await cancelled_after(running, num_ticks)


@pytest.mark.parametrize("num_ticks", TICKS)
async def test_a_loop_over_a_signal_ends_when_it_is_cancelled_just_as_it_wakes(
    num_ticks: int,
) -> None:
    changed = Signal()

    async def follow() -> None:
        while True:
            await changed.wait(changed.version, 60)

    running = asyncio.create_task(follow())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    changed.notify()

    await cancelled_after(running, num_ticks)


async def cancelled_after(running: "asyncio.Task[None]", num_ticks: int) -> None:
    for _ in range(num_ticks):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running}, timeout=1)
    assert running.cancelled(), "it goes on for ever"
