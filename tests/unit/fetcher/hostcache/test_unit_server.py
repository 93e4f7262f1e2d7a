import asyncio
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.errors import UnitFileLost, UnitsRefused
from libs.common.states import FetchClass, FetchPurpose, FetchState
from libs.common.testing.objectstore import MemoryObjectStore
from libs.common.weights.unitclient import MAX_PACKET_BYTES, UnitSession, WantedUnits
from libs.common.weights.unitfile import UnitReader
from libs.common.weights.unitwriter import file_size_bytes
from services.fetcher.errors import HostCacheFull
from tests.unit.fetcher.nodes import Node, StoredModel, running_node, stored_model
from tests.unit.fetcher.worlds import eventually


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


def take(path: Path, units: WantedUnits, timeout_s: float = 10) -> list[UnitReader]:
    """What a worker does, in a thread of its own."""
    session = UnitSession(path, units, deadline_s=time.monotonic() + timeout_s)
    return list(session.readers())


async def taken(node: Node, model: StoredModel, timeout_s: float = 10) -> list[UnitReader]:
    return await asyncio.to_thread(take, node.socket_path, model.wanted, timeout_s)


def everything(readers: list[UnitReader]) -> dict[str, bytes]:
    for reader in readers:
        reader.wait_complete(time.monotonic() + 10)
    return {reader.digest: bytes(reader.data) for reader in readers}


async def test_a_worker_gets_its_units_in_order(tmp_path: Path, store: MemoryObjectStore) -> None:
    model = await stored_model(store, num_layers=100)  # more than one packet of descriptors
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch(), workers=(model.worker(),))

        readers = await taken(node, model)
        content = await asyncio.to_thread(everything, readers)

    assert [reader.digest for reader in readers] == [unit.digest for unit in model.units]
    assert content == model.data


async def test_a_start_may_take_days(tmp_path: Path, store: MemoryObjectStore) -> None:
    model = await stored_model(store)
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch(), workers=(model.worker(),))

        assert len(await taken(node, model, timeout_s=3 * 86_400)) == len(model.units)


async def test_a_worker_that_asks_first_waits_for_the_desired_state(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store)
    async with running_node(tmp_path, store) as node:
        asking = asyncio.create_task(taken(node, model))
        await eventually(lambda: bool(asking) and not asking.done())

        await node.want(model.fetch(), workers=(model.worker(),))

        assert len(await asking) == len(model.units)


async def test_units_are_handed_over_before_their_bytes_are_there(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store)
    store.hold_after_bytes = 0
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch(), workers=(model.worker(),))

        readers = await taken(node, model)
        assert not any(reader.is_complete for reader in readers)
        store.release()

        assert await asyncio.to_thread(everything, readers) == model.data


@pytest.mark.parametrize(
    "request_bytes",
    [
        *(b"{", b"[]", b"\xff" * 9, b'{"manifest_digest": 5}'),
        b'{"manifest_digest": "m", "unit_digests": [7], "deadline_ms": 1}',
        b'{"manifest_digest": "m", "unit_digests": ["u"]}',
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(
    tmp_path: Path, store: MemoryObjectStore, request_bytes: bytes
) -> None:
    def ask(path: Path) -> dict[str, str]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(str(path))
            connection.sendall(request_bytes)
            answer: dict[str, str] = json.loads(connection.recv(MAX_PACKET_BYTES))
            return answer

    async with running_node(tmp_path, store) as node:
        answer = await asyncio.to_thread(ask, node.socket_path)

    assert answer["kind"] == "refused"
    assert answer["code"] == "bad_request"


async def test_units_that_are_not_desired_are_not_handed_out_although_they_are_there(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model, other = await stored_model(store), await stored_model(store, seed=100)
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch())
        await eventually(lambda: node.observed().state is FetchState.COMPLETE)
        await node.want(other.fetch("fetch-2"))

        with pytest.raises(UnitsRefused) as caught:
            await taken(node, model, timeout_s=0.1)

    assert caught.value.code == "not_desired"


async def test_a_worker_gets_its_units_whichever_fetch_brings_them(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store)
    async with running_node(tmp_path, store) as node:
        await node.want(
            model.fetch("prefetch", FetchClass.BACKGROUND, FetchPurpose.PREFETCH, slice(2)),
            model.fetch("start", units=slice(2, None)),
        )

        readers = await taken(node, model)

        assert await asyncio.to_thread(everything, readers) == model.data


async def test_a_failed_fetch_is_no_failure_for_units_that_another_one_brings(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model, too_much = await stored_model(store), await stored_model(store, num_layers=20)
    store.hold_after_bytes = 0
    capacity_bytes = sum(file_size_bytes(unit) for unit in model.units)
    async with running_node(tmp_path, store, capacity_bytes=capacity_bytes) as node:
        await node.want(too_much.fetch("fetch-1"))
        await eventually(lambda: node.observed("fetch-1").state is FetchState.FAILED)
        await node.want(too_much.fetch("fetch-1"), model.fetch("fetch-2"))
        store.release()

        readers = await taken(node, model)
        with pytest.raises(UnitsRefused, match="no room") as caught:
            await taken(node, too_much)

        assert await asyncio.to_thread(everything, readers) == model.data
    assert caught.value.code == "fetch_failed"


async def test_units_that_nobody_wants_any_more_are_refused_at_once(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store)
    async with running_node(tmp_path, store) as node:
        await node.want(workers=(model.worker(),))  # no fetch: the files do not come
        session = UnitSession(node.socket_path, model.wanted, deadline_s=time.monotonic() + 60)
        await asyncio.to_thread(lambda: session.manifest)  # they were desired when it asked

        await node.want()

        with pytest.raises(UnitsRefused) as caught:
            await asyncio.wait_for(asyncio.to_thread(list, session.readers()), 10)
    assert caught.value.code == "not_desired"


async def test_a_worker_learns_why_its_units_do_not_come(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store)
    async with running_node(tmp_path, store, capacity_bytes=10_000) as node:
        await node.want(model.fetch(), workers=(model.worker(),))

        with pytest.raises(UnitsRefused, match="no room") as caught:
            await taken(node, model)

    assert caught.value.code == "fetch_failed"


async def test_units_without_a_fetch_are_waited_for_until_the_deadline(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store)
    async with running_node(tmp_path, store) as node:
        await node.want(workers=(model.worker(),))

        with pytest.raises(UnitsRefused) as caught:
            await taken(node, model, timeout_s=0.1)

    assert caught.value.code == "deadline"


async def test_a_worker_waits_for_a_fetcher_that_starts_later(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store)
    path = tmp_path / "sockets" / "fetcher.sock"
    asking = asyncio.create_task(asyncio.to_thread(take, path, model.wanted))

    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch(), workers=(model.worker(),))
        assert len(await asking) == len(model.units)


async def test_no_fetcher_until_the_deadline_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UnitFileLost, match="no fetcher answered"):
        await asyncio.to_thread(take, tmp_path / "nobody.sock", WantedUnits("m", ()), 0.1)


async def test_held_units_are_not_evicted_and_dropped_ones_are(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store)
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch(), workers=(model.worker(),))
        readers = await taken(node, model)
        await asyncio.to_thread(everything, readers)
        await node.want()
        await eventually(lambda: not node.cache.pin_owners)
        node.cache.max_bytes = node.cache.used_bytes
        other = (await stored_model(store, seed=500)).units[:1]

        with pytest.raises(HostCacheFull):
            await node.cache.make_room(other)
        readers.clear()
        await node.cache.make_room(other)


async def test_a_worker_that_hangs_up_frees_its_slot(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    async with running_node(tmp_path, store) as node:
        num_open = len(os.listdir("/proc/self/fd"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(str(node.socket_path))
            request = {"manifest_digest": "m", "unit_digests": ["u"], "deadline_ms": 60_000}
            connection.sendall(json.dumps(request).encode())
            await eventually(lambda: len(os.listdir("/proc/self/fd")) == num_open + 2)

        await eventually(lambda: len(os.listdir("/proc/self/fd")) == num_open)


async def test_a_node_that_was_out_of_descriptors_serves_again(
    tmp_path: Path, store: MemoryObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    model = await stored_model(store)
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch(), workers=(model.worker(),))
        await eventually(lambda: node.observed().state is FetchState.COMPLETE)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as early, no_more_descriptors():
            early.connect(str(node.socket_path))
            await eventually(lambda: "was not accepted" in caplog.text)

        readers = await taken(node, model)

    assert len(readers) == len(model.units)


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Nothing can be opened in this process."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_a_worker_cannot_write_through_its_descriptor(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    model = await stored_model(store)
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch(), workers=(model.worker(),))
        await taken(node, model)
        descriptor = node.cache.lease(model.units[0].digest)

        assert descriptor is not None
        with pytest.raises(OSError):
            os.write(descriptor, b"x")
        os.close(descriptor)


def test_the_worker_side_needs_nothing_but_the_standard_library() -> None:
    code = "import sys, libs.common.weights.unitclient; print('asyncio' in sys.modules)"
    # -S: without site-packages, so that an import of anything else fails.
    output = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[4],
        timeout=30,
    )
    assert output.stdout.strip() == b"False"


SMALL_WORKER = """
import resource, sys, time
from functools import partial
from pathlib import Path
from libs.common.errors import UnitFileError
from libs.common.weights.unitclient import UnitSession, WantedUnits
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
units = WantedUnits(sys.argv[3], tuple(sys.argv[4:]))
session = UnitSession(Path(sys.argv[1]), units, deadline_s=time.monotonic() + 10)
kept = []
try:
    for reader in session.readers():
        kept += [reader] * (sys.argv[2] == "keep")
except UnitFileError as exc:
    print(exc)
"""


@pytest.mark.parametrize(
    ("habit", "message"),
    [
        pytest.param("drop", b"may not open so many files", id="in one packet"),
        pytest.param("keep", b"open", id="in all its mappings"),
    ],
)
async def test_a_worker_that_may_not_open_so_many_files_is_told_so(
    tmp_path: Path, store: MemoryObjectStore, habit: str, message: bytes
) -> None:
    model = await stored_model(store, num_layers=100)
    async with running_node(tmp_path, store) as node:
        await node.want(model.fetch(), workers=(model.worker(),))
        await eventually(lambda: node.observed().state is FetchState.COMPLETE)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SMALL_WORKER, str(node.socket_path), habit),
            *(model.digest, *model.wanted.digests),
            cwd=Path(__file__).parents[4],
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 30)

    assert message in output
