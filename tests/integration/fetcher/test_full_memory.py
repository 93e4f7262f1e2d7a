"""A shared memory that is smaller than what the host cache was promised."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.cause_words import words
from libs.common.causes import Fault
from libs.common.states import FetchState
from libs.common.testing.objectstore import MemoryObjectStore
from services.fetcher.errors import SharedMemoryFull
from services.fetcher.hostcache.hostcache import HostCache
from tests.unit.common.weights.builders import random_bytes, unit_of
from tests.unit.fetcher.nodes import Node, running_node, stored_model
from tests.unit.fetcher.worlds import eventually

SIZE = 1 << 20


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 3 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root; the capacity limit is tested without it")
    folder = tmp_path / "shm"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={3 * SIZE}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, timeout=10).returncode != 0:
        pytest.skip("this machine does not allow mounting")
    try:
        yield folder
    finally:
        # Lazily: what was raised in the test may still hold a mapping.
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=10)


async def test_full_shared_memory_evicts_and_then_says_so(small_tmpfs: Path) -> None:
    cache = HostCache(small_tmpfs, max_bytes=1 << 30)
    cache.adopt()
    units = [unit_of(random_bytes(SIZE, seed=i), layer_index=i) for i in range(4)]
    for unit in units[:3]:
        await cache.open(unit)  # the third does not fit beside two and their headers

    held = cache.used_bytes
    cache.pin("all", [unit.digest for unit in units])
    with pytest.raises(SharedMemoryFull, match="shared memory is full"):
        await cache.open(units[3])

    assert held == cache.used_bytes < 3 * SIZE
    assert len(os.listdir(small_tmpfs)) == 2


def has_ended(node: Node, fetch_id: str) -> bool:
    return node.observed(fetch_id).state in (FetchState.COMPLETE, FetchState.FAILED)


async def test_a_fetch_that_finds_shared_memory_full_fails_and_the_next_one_works(
    small_tmpfs: Path,
) -> None:
    store = MemoryObjectStore()
    model = await stored_model(store, width=300)
    others = small_tmpfs / "of-others"
    async with running_node(small_tmpfs.parent, store) as node:
        others.write_bytes(bytes(2 * SIZE))
        await node.want(model.fetch("fetch-1"))
        await eventually(lambda: has_ended(node, "fetch-1"))
        failed = node.observed("fetch-1")

        full = node.service.heartbeat()
        others.unlink()
        free = node.service.heartbeat()
        await node.want(model.fetch("fetch-2"))
        await eventually(lambda: has_ended(node, "fetch-2"))

        assert failed.state is FetchState.FAILED and failed.cause is not None
        assert failed.cause.fault is Fault.NODE
        assert "shared memory is full" in words(failed.cause)
        assert node.observed("fetch-2").state is FetchState.COMPLETE
        assert full.cache_capacity_bytes <= SIZE < free.cache_capacity_bytes
        assert full.cache_max_bytes == free.cache_max_bytes
