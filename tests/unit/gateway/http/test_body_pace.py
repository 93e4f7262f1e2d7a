"""One tenant's bodies are read at a bounded rate; around a large one others run."""

import asyncio

import pytest

from libs.common.clock import SystemClock
from libs.common.testing.bus import FakeClock
from services.gateway.http.body_pace import LARGE_BYTES, BodyPace, pause_for_others
from tests.unit.gateway.world import gateway_world

PART_BYTES = 64 * 2**10
SLOW = 2 * PART_BYTES  # per second


async def test_what_a_tenant_reads_takes_as_long_as_its_rate_says() -> None:
    clock = SystemClock()
    pace, began_s = BodyPace(100 * PART_BYTES, PART_BYTES, clock), clock.monotonic_s()

    for _ in range(10):
        await pace.read("busy", PART_BYTES)

    assert clock.monotonic_s() - began_s >= 0.07


async def test_connections_of_a_tenant_share_its_rate() -> None:
    clock = SystemClock()
    pace, began_s = BodyPace(100 * PART_BYTES, PART_BYTES, clock), clock.monotonic_s()

    await asyncio.gather(*(pace.read("busy", PART_BYTES) for _ in range(10)))

    assert clock.monotonic_s() - began_s >= 0.07


async def test_no_other_tenant_waits() -> None:
    pace = BodyPace(SLOW, PART_BYTES, SystemClock())
    busy = asyncio.create_task(pace.read("busy", 100 * PART_BYTES))
    await asyncio.sleep(0)  # it has begun

    await pace.read("quiet", 100)

    assert not busy.done()
    busy.cancel()


async def test_who_has_read_nothing_lately_reads_one_body_at_once() -> None:
    pace = BodyPace(1, 8 * PART_BYTES, SystemClock())
    async with asyncio.timeout(1):
        for _ in range(7):
            await pace.read("quiet", PART_BYTES)


async def test_only_tenants_that_have_read_lately_are_remembered() -> None:
    clock = FakeClock()
    pace = BodyPace(SLOW, 8 * PART_BYTES, clock)
    for i in range(500):
        await pace.read(f"tenant-{i}", PART_BYTES)
        clock.advance(0.1)

    assert pace.num_tenants <= 6, "half a second fills what a part has taken"


async def test_without_a_rate_nobody_waits() -> None:
    pace = BodyPace(0, PART_BYTES, SystemClock())
    async with asyncio.timeout(1):
        await pace.read("busy", 2**40)


@pytest.mark.parametrize(("num_bytes", "do_others_run"), [(LARGE_BYTES, True), (100, False)])
async def test_others_run_between_the_steps_of_large_bodies_alone(
    num_bytes: int, do_others_run: bool
) -> None:
    other = asyncio.create_task(asyncio.sleep(0))

    await pause_for_others(num_bytes)

    assert other.done() is do_others_run
    await other


async def test_a_large_body_is_parsed_and_answered() -> None:
    async with gateway_world() as world:
        response = await world.chat("x" * 2 * LARGE_BYTES)

        assert response.status_code == 400
        assert response.json()["error"]["code"] == "context_length_exceeded"
