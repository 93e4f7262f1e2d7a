"""A fetcher's parts on a store in memory, wired for tests."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from libs.common.clock import SystemClock
from libs.common.states import FetchClass
from libs.common.testing.objectstore import MemoryObjectStore
from libs.common.weights.manifest import UnitEntry
from libs.common.weights.unitwriter import UnitWriter
from services.fetcher.fetching.chunk_schedule import Fetch, UnitDownload
from services.fetcher.fetching.governor import NicGovernor
from services.fetcher.fetching.rate_meter import RateMeter
from services.fetcher.fetching.transfer import RetryPolicy, Transfer
from tests.unit.common.weights.builders import random_bytes, unit_of

QUICK = RetryPolicy(patience_s=0.3, max_digest_failures=3, first_delay_s=0.001, max_delay_s=0.01)
DEADLINE_S = 20.0


@dataclass
class World:
    folder: Path
    store: MemoryObjectStore = field(default_factory=MemoryObjectStore)
    governor: NicGovernor = field(default_factory=lambda: NicGovernor(0))
    retry: RetryPolicy = QUICK
    num_connections: int = 4
    data: dict[str, bytes] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def transfer(self) -> Transfer:
        return Transfer(
            self.store,
            self.governor,
            RateMeter(time.monotonic),
            num_connections=self.num_connections,
            retry=self.retry,
        )

    async def stored_unit(self, size: int, *, seed: int = 0, chunk_bytes: int = 65536) -> UnitEntry:
        data = random_bytes(size, seed)
        unit = unit_of(data, layer_index=seed, chunk_size_bytes=chunk_bytes)
        await self.store.put_bytes(unit.key, data, digest=unit.digest)
        self.data[unit.digest] = data
        return unit

    def download(self, unit: UnitEntry) -> UnitDownload:
        return UnitDownload(UnitWriter.create(self.folder / unit.digest, unit))

    def fetch(
        self,
        *downloads: UnitDownload,
        fetch_id: str = "fetch-1",
        fetch_class: FetchClass = FetchClass.INTERACTIVE,
        on_progress: Callable[[], None] = lambda: None,
    ) -> Fetch:
        fetch = Fetch(
            fetch_id,
            self.governor.open_flow(fetch_class),
            tuple(download.unit for download in downloads),
            clock=SystemClock(),
            changed=self.changed,
            on_progress=on_progress,
        )
        for download in downloads:
            fetch.add(download)
        return fetch

    async def run(self, fetch: Fetch) -> None:
        await asyncio.wait_for(self.transfer.run(fetch), DEADLINE_S)

    def content(self, unit: UnitEntry) -> bytes:
        file = (self.folder / unit.digest).read_bytes()
        return file[-unit.size_bytes :]

    def is_genuine(self, unit: UnitEntry) -> bool:
        return self.content(unit) == self.data[unit.digest]


async def eventually(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; fail after the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 -- other threads change what it looks at
            await asyncio.sleep(0.002)
