import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from libs.common.states import FetchClass
from libs.common.testing.objectstore import CutAfter, Fault, FlipByte, NoFault, Unavailable
from libs.common.weights.unitheader import ChunkState, UnitError
from services.fetcher.errors import FetchCancelled, FetchFailed
from tests.unit.fetcher.worlds import QUICK, World, eventually


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_units_arrive_whole_and_genuine(world: World) -> None:
    units = [await world.stored_unit(size, seed=i) for i, size in enumerate((300_000, 1, 65536))]
    downloads = [world.download(unit) for unit in units]

    await world.run(world.fetch(*downloads))

    assert all(world.is_genuine(unit) for unit in units)
    assert all(download.writer.is_complete for download in downloads)


async def test_chunks_are_asked_for_in_the_wanted_order(world: World) -> None:
    first, second = [await world.stored_unit(150_000, seed=i) for i in range(2)]
    world.num_connections = 1

    await world.run(world.fetch(world.download(second), world.download(first)))

    asked = [(key, extent.start) for key, extent in world.store.ranges_opened]
    assert asked == [(unit.key, start) for unit in (second, first) for start in (0, 65536, 131072)]


async def test_a_cut_connection_goes_on_at_the_byte_where_it_broke(world: World) -> None:
    unit = await world.stored_unit(65536)
    world.store.faults.extend([CutAfter(1000), CutAfter(500)])

    await world.run(world.fetch(world.download(unit)))

    assert [extent.start for _key, extent in world.store.ranges_opened] == [0, 1000, 1500]
    assert world.store.bytes_read == 65536
    assert world.is_genuine(unit)


async def test_a_store_that_answers_503_for_a_while_is_waited_for(world: World) -> None:
    unit = await world.stored_unit(200_000)
    world.store.faults.extend([Unavailable()] * 5)

    await world.run(world.fetch(world.download(unit)))

    assert world.is_genuine(unit)


async def test_a_flipped_byte_is_caught_and_the_chunk_read_again(world: World) -> None:
    unit = await world.stored_unit(65536)
    world.store.faults.append(FlipByte(40_000))

    await world.run(world.fetch(world.download(unit)))

    assert [extent.start for _key, extent in world.store.ranges_opened] == [0, 0]
    assert world.is_genuine(unit)


def some_fault(chance: random.Random) -> Fault:
    faults = (FlipByte(chance.randrange(300)), CutAfter(chance.randrange(4000)), NoFault())
    return chance.choice(faults)


async def test_a_thousand_random_faults_never_make_a_wrong_unit(world: World) -> None:
    chance = random.Random(7)
    unit = await world.stored_unit(2_000_000, chunk_bytes=4096)
    world.store.faults.extend(some_fault(chance) for _ in range(1000))
    world.retry = replace(QUICK, max_digest_failures=1000)  # many faults may hit one chunk

    await world.run(world.fetch(world.download(unit)))

    assert world.is_genuine(unit)


async def test_one_flipped_bit_is_caught_wherever_it_is(world: World) -> None:
    chance, num_flips, size = random.Random(13), 1000, 16_384
    unit = await world.stored_unit(num_flips * size, chunk_bytes=size)
    places = [(chance.randrange(size), chance.randrange(8)) for _ in range(num_flips)]
    world.store.faults.extend(FlipByte(index, bit) for index, bit in places)
    world.retry = replace(QUICK, max_digest_failures=num_flips)

    await world.run(world.fetch(world.download(unit)))

    assert world.is_genuine(unit)
    assert len(world.store.ranges_opened) == 2 * num_flips


async def test_stored_bytes_that_are_wrong_fail_the_fetch_and_name_the_object(world: World) -> None:
    unit = await world.stored_unit(100_000)
    damaged = bytearray(world.data[unit.digest])
    damaged[70_000] ^= 1
    await world.store.put_bytes(unit.key, bytes(damaged), digest=unit.digest)
    download = world.download(unit)

    with pytest.raises(FetchFailed, match=unit.digest) as caught:
        await world.run(world.fetch(download))

    assert caught.value.unit_error is UnitError.DIGEST_MISMATCH
    assert download.writer.state.name == "FAILED"
    assert download.writer.chunk_state(1) is ChunkState.ABSENT


@pytest.mark.parametrize(
    ("break_it", "error"),
    [
        pytest.param("missing", UnitError.OBJECT_MISSING, id="the object is gone"),
        pytest.param("down", UnitError.STORE_UNREACHABLE, id="the store stays away"),
        pytest.param("forbidden", UnitError.STORE_REFUSED, id="the key may not read"),
    ],
)
async def test_a_store_that_cannot_help_fails_the_fetch_with_a_reason(
    world: World, break_it: str, error: UnitError
) -> None:
    unit = await world.stored_unit(10_000)
    if break_it == "missing":
        await world.store.delete(unit.key)
    world.store.is_down = break_it == "down"
    world.store.is_forbidden = break_it == "forbidden"

    with pytest.raises(FetchFailed, match=unit.key) as caught:
        await world.run(world.fetch(world.download(unit)))

    assert caught.value.unit_error is error


async def test_two_fetches_of_one_unit_share_the_work(world: World) -> None:
    unit = await world.stored_unit(1_000_000)
    download = world.download(unit)
    fetches = [world.fetch(download, fetch_id=name) for name in ("fetch-1", "fetch-2")]

    await asyncio.gather(*(world.run(fetch) for fetch in fetches))

    assert world.store.bytes_read == 1_000_000
    assert [fetch.progress.bytes_done for fetch in fetches] == [1_000_000] * 2


async def test_a_cancelled_fetch_leaves_its_chunks_to_the_other(world: World) -> None:
    unit = await world.stored_unit(1_000_000)
    download = world.download(unit)
    world.store.hold_after_bytes = 100_000
    first, second = (world.fetch(download, fetch_id=name) for name in ("fetch-1", "fetch-2"))
    cancelled = asyncio.create_task(world.run(first))
    await eventually(lambda: world.store.bytes_read > 100_000)
    going_on = asyncio.create_task(world.run(second))

    first.cancel()
    world.store.release()

    with pytest.raises(FetchCancelled):
        await cancelled
    await going_on
    assert world.is_genuine(unit)


async def test_cancelling_the_task_stops_the_threads(world: World) -> None:
    unit = await world.stored_unit(1_000_000)
    world.store.hold_after_bytes = 100_000
    fetch = world.fetch(world.download(unit))
    task = asyncio.create_task(world.run(fetch))
    await eventually(lambda: world.store.bytes_read > 100_000)

    task.cancel()
    await eventually(fetch.is_cancelled.is_set)
    world.store.release()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert world.store.bytes_read < 1_000_000


async def test_progress_tells_first_byte_quarters_and_what_was_there_already(world: World) -> None:
    unit, cached = [await world.stored_unit(400_000, seed=i) for i in range(2)]
    done = world.download(cached)
    await world.run(world.fetch(done))
    told: list[str] = []
    fetch = world.fetch(done, world.download(unit), on_progress=lambda: told.append("progress"))

    await world.run(fetch)

    progress = fetch.progress
    assert (progress.bytes_done, progress.bytes_total) == (800_000, 800_000)
    assert progress.bytes_from_cache == 400_000
    assert progress.first_byte_at is not None
    assert list(progress.milestones) == [0.25, 0.5, 0.75, 1.0]
    assert len(told) == 5


async def test_units_may_be_added_while_earlier_ones_arrive(world: World) -> None:
    first, second = [await world.stored_unit(100_000, seed=i) for i in range(2)]
    fetch = world.fetch(world.download(first))
    fetch.units = (first, second)
    task = asyncio.create_task(world.run(fetch))
    await eventually(lambda: fetch.progress.bytes_done == 100_000)

    fetch.add(world.download(second))
    await task

    assert world.is_genuine(second)


async def test_a_background_unit_becomes_interactive_when_a_cold_start_wants_it(
    world: World,
) -> None:
    download = world.download(await world.stored_unit(10_000))
    prefetch = world.fetch(download, fetch_class=FetchClass.BACKGROUND)
    assert download.flow is prefetch.flow

    start = world.fetch(download, fetch_id="fetch-2")

    assert download.flow is start.flow
