import asyncio
import shutil
from pathlib import Path

import pytest

from libs.common.bus.messages import ImportModel, ImportProgressed
from libs.common.clock import SystemClock
from libs.common.states import ImportState
from libs.common.testing.bus import MemoryBroker, MemoryWorkQueue
from libs.common.testing.objectstore import MemoryObjectStore
from services.fetcher.fetching.governor import NicGovernor
from services.fetcher.fetching.transfer import RetryPolicy
from services.fetcher.imports.gguf_conversion import ConversionLimits
from services.fetcher.imports.import_queue import ImportWorker
from services.fetcher.imports.importer import Importer, ImportSettings
from services.fetcher.imports.upload import Uploader
from tests.unit.fetcher.imports.checkpoints import TinyCheckpoint
from tests.unit.fetcher.worlds import eventually


class QueueWorld:
    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.broker, self.queue = MemoryBroker(), MemoryWorkQueue()
        self.store = MemoryObjectStore()
        uploader = Uploader(self.store, self.store, NicGovernor(0), RetryPolicy())
        limits = ConversionLimits(1 << 30, 10)
        importer = Importer(uploader, ImportSettings((folder,), folder / "scratch", limits))
        bus = self.broker.bus()
        self.worker = ImportWorker(self.queue, importer, bus, SystemClock(), "node-1")

    async def put(self, source: Path, import_id: str = "import-1") -> None:
        job = ImportModel(
            model_id="model-1",
            import_id=import_id,
            source=str(source),
            tenant="default",
            is_public=True,
        )
        await self.queue.put(job)

    async def run_until_ended(self) -> ImportProgressed:
        running = asyncio.create_task(self.worker.run())
        await eventually(lambda: bool(self.ended()))
        running.cancel()
        return self.ended()[-1]

    def told(self) -> list[ImportProgressed]:
        return [m for _, m in self.broker.published if isinstance(m, ImportProgressed)]

    def ended(self) -> list[ImportProgressed]:
        return [message for message in self.told() if message.state is not ImportState.RUNNING]


@pytest.fixture
def world(tmp_path: Path) -> QueueWorld:
    return QueueWorld(tmp_path)


async def test_an_import_ends_with_what_the_scheduler_needs_to_know(world: QueueWorld) -> None:
    await world.put(TinyCheckpoint().write(world.root / "tiny"))

    ended = await world.run_until_ended()

    assert ended.state is ImportState.DONE
    assert ended.bytes_done == ended.bytes_total > 0
    assert ended.manifest_digest is not None
    assert ended.summary is not None
    assert [unit.kind for unit in ended.summary.units][:2] == ["embedding", "layer"]
    assert ended.summary.weight_bytes == sum(unit.size_bytes for unit in ended.summary.units)
    assert set(ended.summary.tokenizer_files) == {
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }


async def test_a_running_import_is_told_before_it_ends(world: QueueWorld) -> None:
    await world.put(TinyCheckpoint().write(world.root / "tiny"))

    await world.run_until_ended()

    assert world.told()[0].state is ImportState.RUNNING


async def test_a_refused_source_ends_with_its_code_and_cause(world: QueueWorld) -> None:
    await world.put(Path("/etc"))

    ended = await world.run_until_ended()

    assert ended.state is ImportState.FAILED
    assert ended.cause is not None
    assert ended.cause.endswith("[source_outside_roots]")


async def test_one_bad_import_does_not_stop_the_next(world: QueueWorld) -> None:
    await world.put(world.root / "nowhere")
    await world.run_until_ended()
    await world.put(TinyCheckpoint().write(world.root / "tiny"), "import-2")

    running = asyncio.create_task(world.worker.run())
    await eventually(lambda: len(world.ended()) == 2)
    running.cancel()

    assert [message.state for message in world.ended()] == [ImportState.FAILED, ImportState.DONE]


async def test_an_import_that_comes_again_is_told_again_without_being_done_again(
    world: QueueWorld,
) -> None:
    source = TinyCheckpoint().write(world.root / "tiny")
    await world.put(source)
    first = await world.run_until_ended()
    shutil.rmtree(source)  # done again it would fail
    world.queue.lose_all()
    await world.put(source)

    running = asyncio.create_task(world.worker.run())
    await eventually(lambda: len(world.ended()) == 2)
    running.cancel()

    assert first.state is ImportState.DONE
    assert world.ended() == [first, first]
