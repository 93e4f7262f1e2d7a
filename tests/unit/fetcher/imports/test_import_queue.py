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

    async def put(self, source: Path, import_id: str = "import-1", **values: object) -> None:
        job = ImportModel(
            model_id="model-1",
            import_id=import_id,
            source=str(source),
            tenant="default",
            is_public=True,
        ).model_copy(update=values)
        await self.queue.put(job)

    async def run_until_ended(self, num_ended: int = 1) -> ImportProgressed:
        running = asyncio.create_task(self.worker.run())
        await eventually(lambda: len(self.ended()) >= num_ended)
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


async def test_a_model_whose_objects_are_whole_after_all_needs_no_source(
    world: QueueWorld,
) -> None:
    source = TinyCheckpoint().write(world.root / "tiny")
    await world.put(source)
    first = await world.run_until_ended()
    shutil.rmtree(source)
    suspects = (f"units/{unit_digests(first)[-1]}",)

    await world.put(
        source, "import-2", manifest_digest=first.manifest_digest, suspect_keys=suspects
    )
    again = await world.run_until_ended(2)

    assert (again.state, again.import_id) == (ImportState.DONE, "import-2")
    assert (again.manifest_digest, again.summary) == (first.manifest_digest, first.summary)
    assert again.bytes_done == again.bytes_total >= first.bytes_total
    assert world.store.ranges_opened[0][0] == suspects[0]


@pytest.mark.parametrize("is_source_there", [True, False])
async def test_a_damaged_object_is_replaced_where_the_source_is_still_there(
    world: QueueWorld, is_source_there: bool
) -> None:
    source = TinyCheckpoint().write(world.root / "tiny")
    await world.put(source)
    first = await world.run_until_ended()
    key = f"units/{unit_digests(first)[1]}"
    good = await world.store.get(key, max_bytes=1 << 20)
    await world.store.put_bytes(key, bytes(len(good)), digest="as declared")
    if not is_source_there:
        shutil.rmtree(source)

    await world.put(source, "import-2", manifest_digest=first.manifest_digest, suspect_keys=(key,))
    again = await world.run_until_ended(2)

    if is_source_there:
        assert again.manifest_digest == first.manifest_digest
        assert await world.store.get(key, max_bytes=1 << 20) == good
    else:
        assert again.state is ImportState.FAILED
        assert again.cause is not None and "does not exist" in again.cause


def unit_digests(ended: ImportProgressed) -> list[str]:
    assert ended.summary is not None
    return [unit.digest for unit in ended.summary.units]
