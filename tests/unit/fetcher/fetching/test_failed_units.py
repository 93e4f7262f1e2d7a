"""A unit that failed is tried again while threads of the first try still hold its chunks."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from libs.common.errors import UnitFileFailed, UnitFileTimeout
from libs.common.objectstore.objectstore import RangeBody, RangeConnection
from libs.common.states import FetchState
from libs.common.testing.objectstore import MemoryObjectStore
from libs.common.weights.manifest import ByteRange, UnitEntry
from libs.common.weights.unitfile import UnitReader
from tests.unit.fetcher.nodes import Node, StoredModel, running_node, stored_model
from tests.unit.fetcher.worlds import eventually

DEADLINE_S = 30.0


@dataclass
class Spoiling:
    """Flips what it reads, once `may_go` is set."""

    body: RangeBody
    may_go: threading.Event

    def readinto(self, buffer: memoryview) -> int:
        assert self.may_go.wait(DEADLINE_S)
        count = self.body.readinto(buffer)
        buffer[0] ^= 1
        return count


@dataclass
class SpoiltConnection:
    """The first chunk fails as soon as another thread holds one, which then hangs."""

    connection: RangeConnection
    store: "StragglingStore"

    def open_range(self, key: str, extent: ByteRange, object_size_bytes: int) -> RangeBody:
        body = self.connection.open_range(key, extent, object_size_bytes)
        if "fetch-1" not in threading.current_thread().name:
            return body
        if extent.start == 0:
            return Spoiling(body, self.store.has_straggler)
        self.store.has_straggler.set()
        return Spoiling(body, self.store.stragglers_may_go)

    def close(self) -> None:
        self.connection.close()

    def abort(self) -> None:
        self.connection.abort()


@dataclass
class StragglingStore(MemoryObjectStore):
    has_straggler: threading.Event = field(default_factory=threading.Event)
    stragglers_may_go: threading.Event = field(default_factory=threading.Event)

    def connect(self) -> RangeConnection:
        return SpoiltConnection(super().connect(), self)


@pytest.fixture
def store() -> Iterator[StragglingStore]:
    store = StragglingStore()
    yield store
    store.stragglers_may_go.set()


async def failed_once(node: Node, model: StoredModel) -> None:
    await node.want(model.fetch("fetch-1"))
    await eventually(lambda: has_failed(node, model.units[0]))


def has_failed(node: Node, unit: UnitEntry) -> bool:
    if (reader := mapped(node, unit)) is None:
        return False
    try:
        reader.wait_prefix(unit.size_bytes, deadline_s=0.0)
    except UnitFileFailed:
        return True
    except UnitFileTimeout:
        pass
    return False


def mapped(node: Node, unit: UnitEntry) -> UnitReader | None:
    descriptor = node.cache.lease(unit.digest)
    if descriptor is None:
        return None
    reader = UnitReader(descriptor, digest=unit.digest, size_bytes=unit.size_bytes)
    os.close(descriptor)
    return reader


@pytest.mark.parametrize("is_first_still_wanted", [True, False])
async def test_stragglers_of_a_failed_fetch_cannot_reach_the_next_one(
    tmp_path: Path, store: StragglingStore, is_first_still_wanted: bool
) -> None:
    model = await stored_model(store)
    unit = model.units[0]
    async with running_node(tmp_path, store) as node:
        await failed_once(node, model)
        old = [model.fetch("fetch-1")] if is_first_still_wanted else []
        await node.want(*old, model.fetch("fetch-2"))
        await eventually(lambda: node.observed("fetch-2").state is FetchState.COMPLETE)

        store.stragglers_may_go.set()
        await eventually(lambda: not any("fetch-1" in t.name for t in threading.enumerate()))

        reader = mapped(node, unit)
        assert reader is not None and reader.is_complete
        assert bytes(reader.data) == model.data[unit.digest]
        observed = node.observed("fetch-2")
        assert observed.bytes_done == observed.bytes_total
