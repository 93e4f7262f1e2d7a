"""Ranged reads over real sockets from a server that misbehaves."""

import asyncio
import random
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest

from libs.common.objectstore.s3ranges import S3RangeSource
from libs.common.weights.manifest import UnitEntry
from libs.common.weights.unitheader import UnitError
from services.fetcher.errors import FetchFailed
from services.fetcher.fetching.rate_meter import RateMeter
from services.fetcher.fetching.transfer import Transfer
from tests.integration.fetcher.rangeserver import Fault, RangeServer
from tests.unit.common.weights.builders import random_bytes, unit_of
from tests.unit.fetcher.worlds import QUICK, World, eventually

DATA = random_bytes(3_000_000)
UNIT = unit_of(DATA, chunk_size_bytes=1 << 20)


async def fetched(
    folder: Path, server: RangeServer, unit: UnitEntry = UNIT, *, socket_timeout_s: float = 10.0
) -> bytes:
    world = World(folder)
    with server.running() as settings:
        fetch = world.fetch(world.download(unit))
        retry = replace(QUICK, patience_s=30, max_digest_failures=20)
        source = S3RangeSource(settings, socket_timeout_s=socket_timeout_s)
        transfer = Transfer(source, world.governor, RateMeter(time.monotonic), retry=retry)
        await transfer.run(fetch)
    return world.content(unit)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.CUT,
        Fault.RESET_BEFORE_ANSWER,
        Fault.TRUNCATED,
        Fault.FLIP,
        Fault.BUSY,
        Fault.CLOSE_QUIETLY,
        Fault.HANG,
    ],
)
async def test_a_fault_that_passes_is_survived(tmp_path: Path, fault: Fault) -> None:
    server = RangeServer(DATA, deque([fault] * 3))
    timeout_s = 0.3 if fault is Fault.HANG else 10.0

    assert await fetched(tmp_path, server, socket_timeout_s=timeout_s) == DATA


async def test_many_faults_in_any_order_are_survived(tmp_path: Path) -> None:
    chance = random.Random(3)
    passing = [Fault.CUT, Fault.RESET_BEFORE_ANSWER, Fault.FLIP, Fault.BUSY, Fault.NONE]
    server = RangeServer(DATA, deque(chance.choices(passing, k=60)))
    unit = unit_of(DATA, chunk_size_bytes=1 << 16)

    assert await fetched(tmp_path, server, unit) == DATA


async def test_two_hundred_cuts_at_random_bytes_cost_no_byte_twice(tmp_path: Path) -> None:
    num_cuts = 200
    server = RangeServer(DATA, deque([Fault.CUT] * num_cuts), chance=random.Random(11))
    unit = unit_of(DATA, chunk_size_bytes=1 << 16)

    assert await fetched(tmp_path, server, unit) == DATA
    assert len(server.starts) == unit.num_chunks + num_cuts
    assert server.bytes_sent == len(DATA)


async def test_a_cut_range_is_asked_for_from_where_it_broke(tmp_path: Path) -> None:
    server = RangeServer(DATA, deque([Fault.CUT]))
    unit = unit_of(DATA, chunk_size_bytes=1 << 22)

    await fetched(tmp_path, server, unit)

    assert server.starts == [0, len(DATA) // 2]


@pytest.mark.parametrize("fault", [Fault.IGNORE_RANGE, Fault.OTHER_RANGE])
async def test_an_answer_to_another_question_fails_the_fetch(tmp_path: Path, fault: Fault) -> None:
    with pytest.raises(FetchFailed) as caught:
        await fetched(tmp_path, RangeServer(DATA, deque([fault] * 9)))

    assert caught.value.unit_error is UnitError.STORE_REFUSED


async def test_requests_are_signed_in_headers_and_the_secret_is_not_sent(tmp_path: Path) -> None:
    server = RangeServer(DATA)

    await fetched(tmp_path, server)

    assert all("AWS4-HMAC-SHA256 Credential=key/" in text for text in server.authorizations)
    assert not any("secret" in text for text in server.authorizations)


async def test_a_fetch_is_cancelled_at_once_although_the_store_hangs(tmp_path: Path) -> None:
    server = RangeServer(DATA, deque([Fault.HANG] * 9))
    fetching = asyncio.create_task(fetched(tmp_path, server, socket_timeout_s=60.0))
    await eventually(lambda: len(server.starts) > 0)

    fetching.cancel()

    done, _ = await asyncio.wait({fetching}, timeout=20.0)
    server.released.set()
    assert done and fetching.cancelled()
