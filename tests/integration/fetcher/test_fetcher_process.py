"""A real fetcher process on a real bus and a real object store."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from libs.common.bus.messages import ImportProgressed
from libs.common.objectstore.s3store import S3ObjectStore
from libs.common.settings import ObjectStoreSettings
from libs.common.states import FetchState, ImportState
from libs.common.weights.unitclient import UnitSession, WantedUnits
from libs.common.weights.unitfile import UnitReader
from tests.integration.fetcher.countingproxy import CountingProxy
from tests.integration.fetcher.fetcherprocess import (
    FetcherProcess,
    Scheduler,
    fetch_of,
    running_fetcher,
    worker_of,
)
from tests.integration.servers import RunningNats
from tests.support.reference import Bound
from tests.unit.fetcher.imports.checkpoints import TinyCheckpoint
from tests.unit.fetcher.nodes import stored_model
from tests.unit.fetcher.worlds import eventually

NUM_CONNECTIONS = 4  # the fetcher's default


def wide_checkpoint() -> TinyCheckpoint:
    """About 20 MB, so that a fetch at a few MB/s can be interrupted."""
    checkpoint = TinyCheckpoint()
    checkpoint.config.update(vocab_size=80_000)
    checkpoint.shapes["model.embed_tokens.weight"] = (80_000, 64)
    return checkpoint


def take(path: Path, units: WantedUnits, timeout_s: float = 20) -> list[UnitReader]:
    return list(UnitSession(path, units, deadline_s=time.monotonic() + timeout_s).readers())


def units_of(model: ImportProgressed) -> WantedUnits:
    fetch = fetch_of(model)
    return WantedUnits(fetch.manifest_digest, fetch.unit_digests)


def everything(readers: list[UnitReader]) -> list[bytes]:
    for reader in readers:
        reader.wait_complete(time.monotonic() + 20)
    return [bytes(reader.data) for reader in readers]


async def test_a_model_is_imported_fetched_and_handed_to_a_worker(
    tmp_path: Path, nats_server: RunningNats, object_store: ObjectStoreSettings
) -> None:
    checkpoint = TinyCheckpoint()
    async with running_fetcher(tmp_path, nats_server, object_store) as (fetcher, scheduler):
        checkpoint.write(tmp_path / "models" / "tiny")
        model = await scheduler.imported(tmp_path / "models" / "tiny")
        await scheduler.want(fetch_of(model), workers=(worker_of(model),))

        session_readers = await asyncio.to_thread(take, fetcher.socket_path, units_of(model))
        units = await asyncio.to_thread(everything, session_readers)
        observed = await scheduler.fetch_ended()
        stopped = await fetcher.end(signal.SIGTERM)

    assert model.state is ImportState.DONE
    assert model.summary is not None and model.summary.num_layers == 2
    assert observed.state is FetchState.COMPLETE
    assert [len(unit) for unit in units] == [unit.size_bytes for unit in model.summary.units]
    assert checkpoint.tensor_bytes(checkpoint.specs()[0]) in units[0]
    assert stopped == 0
    assert "secret" not in fetcher.log


async def interrupted(fetcher: FetcherProcess, scheduler: Scheduler) -> None:
    """Kill the fetcher when some of the bytes are there, long before all are."""

    def is_halfway() -> bool:
        found = scheduler.fetch("fetch-1")
        return found is not None and 2 << 20 <= found.bytes_done < found.bytes_total

    await eventually(is_halfway)
    await fetcher.end(signal.SIGKILL)


async def test_a_killed_fetcher_resumes_in_the_same_files_under_its_readers(
    tmp_path: Path, nats_server: RunningNats, object_store: ObjectStoreSettings
) -> None:
    async with S3ObjectStore(object_store) as store:
        model = await stored_model(store, width=1024, chunk_size_bytes=1 << 20)  # 17 MB
    proxy = CountingProxy(object_store)
    with proxy.running() as counted:
        async with running_fetcher(tmp_path, nats_server, counted, NIC_BYTES_PER_S="6M") as (
            fetcher,
            scheduler,
        ):
            await scheduler.want(model.fetch(), workers=(model.worker(),))
            readers = await asyncio.to_thread(take, fetcher.socket_path, model.wanted)
            await interrupted(fetcher, scheduler)
            inodes, verified = fetcher.units(), sum(reader.verified_bytes for reader in readers)

            scheduler.heartbeats.clear()
            await fetcher.start()
            await scheduler.ready()
            await scheduler.want(model.fetch(), workers=(model.worker(),))
            observed = await scheduler.fetch_ended()
            units = await asyncio.to_thread(everything, readers)

    assert verified >= 2 << 20
    assert observed.state is FetchState.COMPLETE
    assert observed.bytes_from_cache >= verified
    assert {digest: fetcher.units()[digest] for digest in inodes} == inodes
    assert readers[0].generation == 2
    assert units == [model.data[unit.digest] for unit in model.units]
    num_chunks = sum(unit.num_chunks for unit in model.units)
    again = len(proxy.ranges) - len(set(proxy.ranges))
    assert len(set(proxy.ranges)) == num_chunks
    assert again <= NUM_CONNECTIONS, "at most what was on its way is fetched again"


async def test_a_fetcher_that_is_told_to_stop_stops_in_the_middle_of_a_fetch(
    tmp_path: Path, nats_server: RunningNats, object_store: ObjectStoreSettings
) -> None:
    async with running_fetcher(tmp_path, nats_server, object_store, NIC_BYTES_PER_S="8M") as (
        fetcher,
        scheduler,
    ):
        wide_checkpoint().write(tmp_path / "models" / "wide")
        model = await scheduler.imported(tmp_path / "models" / "wide")
        bound = Bound(5.0, multiple=50)
        await scheduler.want(fetch_of(model))
        await eventually(lambda: scheduler.fetch("fetch-1") is not None)

        started_s = time.monotonic()
        code = await fetcher.end(signal.SIGTERM)
        took_s = time.monotonic() - started_s

    assert code == 0
    bound.check(took_s, "stopping")
    assert not fetcher.socket_path.exists()


async def test_an_import_survives_the_death_of_its_fetcher(
    tmp_path: Path, nats_server: RunningNats, object_store: ObjectStoreSettings
) -> None:
    async with running_fetcher(tmp_path, nats_server, object_store, NIC_BYTES_PER_S="8M") as (
        fetcher,
        scheduler,
    ):
        source = wide_checkpoint().write(tmp_path / "models" / "wide")
        importing = asyncio.create_task(scheduler.imported(source))
        await eventually(lambda: bool(scheduler.imports))
        await fetcher.end(signal.SIGKILL)
        importing.cancel()

        await fetcher.start()
        await scheduler.ready()
        # The scheduler puts a job again when it hears nothing; the queue would after 30 s.
        ended = await scheduler.imported(source, "import-2")

    assert ended.state is ImportState.DONE
    assert os.listdir(tmp_path / "scratch") == []


async def test_a_refused_import_tells_its_cause(
    tmp_path: Path, nats_server: RunningNats, object_store: ObjectStoreSettings
) -> None:
    async with running_fetcher(tmp_path, nats_server, object_store) as (_fetcher, scheduler):
        ended = await scheduler.imported(Path("/etc"))

    assert ended.state is ImportState.FAILED
    assert ended.cause is not None and "[source_outside_roots]" in ended.cause


async def test_a_fetcher_outlives_a_dead_bus(
    tmp_path: Path, nats_server: RunningNats, object_store: ObjectStoreSettings
) -> None:
    async with running_fetcher(tmp_path, nats_server, object_store) as (fetcher, scheduler):
        TinyCheckpoint().write(tmp_path / "models" / "tiny")
        model = await scheduler.imported(tmp_path / "models" / "tiny")
        await nats_server.kill()
        scheduler.heartbeats.clear()

        await nats_server.start()
        await eventually(lambda: bool(scheduler.heartbeats))
        await scheduler.want(fetch_of(model))

        assert (await scheduler.fetch_ended()).state is FetchState.COMPLETE
        assert fetcher.process is not None and fetcher.process.returncode is None


@pytest.mark.parametrize(
    ("key", "value"), [("NODE_ID", "Node 1"), ("HOST_CACHE_BYTES", "much"), ("SHM_DIR", "")]
)
async def test_a_bad_setting_stops_the_start_and_names_the_key(
    tmp_path: Path, key: str, value: str
) -> None:
    fetcher = FetcherProcess(tmp_path, {"PATH": os.environ["PATH"]})
    fetcher.environment |= {"HYDRA_NODE_ID": "node-1", f"HYDRA_{key}": value}
    await fetcher.start()
    assert fetcher.process is not None

    assert await asyncio.wait_for(fetcher.process.wait(), 20) == 1
    assert "SettingsError: setting HYDRA_" in fetcher.log
