"""What every work queue does; run on the double and on JetStream by subclasses with fixtures."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from opentelemetry.sdk.trace import TracerProvider

from libs.common.bus.messages import ImportModel
from libs.common.bus.workqueue import WorkQueue
from libs.common.errors import BusError
from libs.common.observability import telemetry

GoAway = Callable[[], Awaitable[None]]
RETRY_DELAY_S = 0.5


def job(number: int) -> ImportModel:
    return ImportModel(
        model_id=f"model-{number}",
        import_id=f"import-{number}",
        source="/models/x",
        tenant="default",
        is_public=True,
    )


class WorkQueueContract:
    """Subclasses give `scheduler` (ensured) and `fetcher`: the two ends of one queue, `impatient`:
    the scheduler's end for what nobody will answer, and `go_away`, which takes the server from all.
    """

    async def test_a_job_is_taken_once_and_gone_when_done(
        self, scheduler: WorkQueue, fetcher: WorkQueue
    ) -> None:
        await scheduler.put(job(1))

        taken = await fetcher.take(timeout_s=5)
        assert taken is not None and taken.message == job(1)
        await taken.in_progress()
        await taken.done()
        assert await fetcher.take(timeout_s=0.2) is None

    async def test_jobs_come_in_order_and_to_one_taker_each(
        self, scheduler: WorkQueue, fetcher: WorkQueue
    ) -> None:
        for number in range(3):
            await scheduler.put(job(number))

        taken = [await fetcher.take(timeout_s=5) for _ in range(3)]

        assert [found and found.message for found in taken] == [job(0), job(1), job(2)]
        assert await fetcher.take(timeout_s=0.2) is None

    async def test_whoever_waits_gets_what_is_put_meanwhile(
        self, scheduler: WorkQueue, fetcher: WorkQueue
    ) -> None:
        taking = asyncio.create_task(fetcher.take(timeout_s=10))
        await scheduler.put(job(1))

        taken = await asyncio.wait_for(taking, 5)

        assert taken is not None and taken.message == job(1)

    async def test_a_job_put_again_is_one_job_until_it_is_done(
        self, scheduler: WorkQueue, fetcher: WorkQueue
    ) -> None:
        await scheduler.put(job(1))
        await scheduler.put(job(1))

        taken = await fetcher.take(timeout_s=5)
        await scheduler.put(job(1))
        assert taken is not None
        assert await fetcher.take(timeout_s=0.2) is None
        await taken.done()
        await scheduler.put(job(1))
        assert await fetcher.take(timeout_s=5) is not None

    async def test_a_withdrawn_job_does_not_come_and_may_be_put_anew(
        self, scheduler: WorkQueue, fetcher: WorkQueue
    ) -> None:
        await scheduler.put(job(1))
        await scheduler.put(job(2))
        await scheduler.withdraw("import-1")
        await scheduler.withdraw("import-unknown")

        taken = await fetcher.take(timeout_s=5)
        assert taken is not None and taken.message == job(2)
        assert await fetcher.take(timeout_s=0.2) is None
        await scheduler.withdraw("import-2")  # its fetcher fell silent
        await scheduler.put(job(2))
        again = await fetcher.take(timeout_s=5)
        assert again is not None and again.message == job(2)

    async def test_a_job_given_back_comes_again_after_the_delay(
        self, scheduler: WorkQueue, fetcher: WorkQueue
    ) -> None:
        await scheduler.put(job(1))
        first = await fetcher.take(timeout_s=5)
        assert first is not None
        given_back_s = time.monotonic()
        await first.retry_later(RETRY_DELAY_S)

        again = await fetcher.take(timeout_s=10)
        assert again is not None and again.message == job(1)
        assert time.monotonic() - given_back_s > 0.9 * RETRY_DELAY_S

    async def test_a_job_carries_the_trace_of_whoever_put_it(
        self, scheduler: WorkQueue, fetcher: WorkQueue
    ) -> None:
        with TracerProvider().get_tracer("test").start_as_current_span("put"):
            traceparent = telemetry.current_traceparent()
            await scheduler.put(job(1))

        taken = await fetcher.take(timeout_s=5)

        assert taken is not None and traceparent is not None
        assert taken.headers["traceparent"] == traceparent

    async def test_without_its_server_it_takes_no_job_and_gives_none(
        self, scheduler: WorkQueue, impatient: WorkQueue, fetcher: WorkQueue, go_away: GoAway
    ) -> None:
        await scheduler.put(job(1))
        await go_away()

        with pytest.raises(BusError):
            await impatient.put(job(2))
        with pytest.raises(BusError):
            await impatient.withdraw("import-1")
        assert await fetcher.take(timeout_s=0.1) is None
