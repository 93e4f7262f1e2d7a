import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from services.fetcher.hostcache.hostcache import HostCache
from services.fetcher.hostcache.page_warming import keep_warm
from tests.support.waiting import eventually

FILE_BYTES = 2**20
PERIOD_S = 0.005


@dataclass
class WarmedNode:
    cache: HostCache
    is_idle: bool = True

    @property
    def warm_bytes(self) -> int:
        return self.cache.max_bytes - self.cache.free_bytes


@asynccontextmanager
async def warmed(folder: Path, *, num_files: int) -> AsyncIterator[WarmedNode]:
    cache = HostCache(folder, 100 * FILE_BYTES, max_warm_bytes=2 * FILE_BYTES)
    cache.adopt()
    cache.expect([FILE_BYTES] * num_files)
    node = WarmedNode(cache)
    warming = asyncio.create_task(
        keep_warm(cache, lambda: node.is_idle, quiet_s=PERIOD_S, period_s=PERIOD_S)
    )
    try:
        yield node
    finally:
        warming.cancel()
        with suppress(asyncio.CancelledError):
            await warming


async def test_an_idle_node_makes_pages_up_to_its_limit(tmp_path: Path) -> None:
    async with warmed(tmp_path, num_files=5) as node:
        await eventually(lambda: node.warm_bytes == 2 * FILE_BYTES)


async def test_a_node_that_fetches_makes_none(tmp_path: Path) -> None:
    async with warmed(tmp_path, num_files=1) as node:
        node.is_idle = False
        await asyncio.sleep(10 * PERIOD_S)
        while_busy = node.warm_bytes

        node.is_idle = True
        await eventually(lambda: node.warm_bytes == FILE_BYTES)

    assert while_busy == 0


async def test_memory_that_others_took_ends_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "units"
    async with warmed(folder, num_files=1) as node:
        node.is_idle = False
        folder.rename(tmp_path / "gone")
        node.is_idle = True
        await asyncio.sleep(10 * PERIOD_S)

        (tmp_path / "gone").rename(folder)
        await eventually(lambda: node.warm_bytes == FILE_BYTES)
