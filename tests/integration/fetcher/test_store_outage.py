"""An S3 server that dies and comes back, under an import and under a fetch."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from libs.common.objectstore.s3ranges import S3RangeSource
from libs.common.objectstore.s3store import S3ObjectStore
from libs.common.settings import ObjectStoreSettings
from libs.common.tenants import OPERATOR_TENANT
from libs.common.weights.manifest import UnitEntry, UnitKind
from services.fetcher.fetching.governor import NicGovernor
from services.fetcher.fetching.rate_meter import RateMeter
from services.fetcher.fetching.transfer import RetryPolicy, Transfer
from services.fetcher.imports.gguf_conversion import ConversionLimits
from services.fetcher.imports.importer import (
    ImportedModel,
    Importer,
    ImportProgress,
    ImportSettings,
)
from services.fetcher.imports.upload import Uploader
from tests.integration.servers import RunningS3
from tests.unit.common.weights.builders import random_bytes, unit_of
from tests.unit.fetcher.imports.checkpoints import TinyCheckpoint, llama_shapes
from tests.unit.fetcher.worlds import World, eventually

PATIENT = RetryPolicy(patience_s=60, first_delay_s=0.02, max_delay_s=0.2)
SLOW_BYTES_PER_S = 4_000_000


@dataclass
class OwnS3:
    server: RunningS3
    settings: ObjectStoreSettings


@pytest.fixture
async def own_s3(tmp_path: Path) -> AsyncIterator[OwnS3]:
    server = RunningS3(tmp_path / "own-s3")
    await server.start()
    await asyncio.to_thread(server.server.make_bucket, "outage")
    try:
        yield OwnS3(server, server.settings("outage"))
    finally:
        await server.stop()


async def imported(
    root: Path, store: S3ObjectStore, own_s3: OwnS3, told: list[ImportProgress]
) -> ImportedModel:
    source = S3RangeSource(own_s3.settings)
    uploader = Uploader(store, source, NicGovernor(SLOW_BYTES_PER_S), PATIENT)
    settings = ImportSettings((root,), root / "scratch", ConversionLimits(1 << 30, 10))
    return await Importer(uploader, settings).run(
        root / "model", tenant=OPERATOR_TENANT, is_public=True, report=told.append
    )


async def test_an_import_goes_on_when_the_store_is_back(tmp_path: Path, own_s3: OwnS3) -> None:
    shapes = llama_shapes(60)
    checkpoint = TinyCheckpoint(shapes=shapes)
    checkpoint.config["num_hidden_layers"] = 60
    checkpoint.write(tmp_path / "model")
    told: list[ImportProgress] = []
    async with S3ObjectStore(own_s3.settings) as store:
        importing = asyncio.create_task(imported(tmp_path, store, own_s3, told))
        await eventually(lambda: len(told) > 5)
        await own_s3.server.kill()
        num_told = len(told)
        assert not importing.done()

        await own_s3.server.start()
        model = await asyncio.wait_for(importing, 60)

    assert len(told) > num_told
    assert len(model.manifest.units) == 62
    assert told[-1].bytes_done == told[-1].bytes_total


async def stored(settings: ObjectStoreSettings, data: bytes) -> UnitEntry:
    unit = unit_of(data, kind=UnitKind.EMBEDDING, layer_index=None, chunk_size_bytes=1 << 20)
    async with S3ObjectStore(settings) as store:
        await store.put_bytes(unit.key, data, digest=unit.digest)
    return unit


@pytest.mark.parametrize("outage_s", [0, pytest.param(10, marks=pytest.mark.long)])
async def test_a_fetch_goes_on_when_the_store_is_back(
    tmp_path: Path, own_s3: OwnS3, outage_s: float
) -> None:
    data = random_bytes(12 << 20)
    unit = await stored(own_s3.settings, data)
    world = World(tmp_path, governor=NicGovernor(SLOW_BYTES_PER_S))
    source = S3RangeSource(own_s3.settings)
    transfer = Transfer(source, world.governor, RateMeter(time.monotonic), retry=PATIENT)
    fetch = world.fetch(world.download(unit))
    fetching = asyncio.create_task(transfer.run(fetch))
    await eventually(lambda: fetch.progress.bytes_done > 0)

    await own_s3.server.kill()
    await asyncio.sleep(outage_s)
    assert not fetching.done()
    await own_s3.server.start()
    await asyncio.wait_for(fetching, 60)

    assert world.content(unit) == data
