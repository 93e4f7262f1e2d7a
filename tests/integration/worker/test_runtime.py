"""A real worker process, spoken to over its socketpair, with real unit files."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from libs.common.cause_words import words
from libs.common.sampling import SamplingParameters
from libs.common.states import FinishReason
from services.worker.agent.devices.device import Device
from services.worker.agent.devices.finding import find_devices
from services.worker.agent.settings import parse_device
from services.worker.frames.frames import (
    CancelGeneration,
    Ready,
    Registered,
    StepTaken,
    TokensProduced,
    WorkerFailed,
)
from tests.integration.worker.processes import CPU, GREEDY, Workers, expected_tokens, generate
from tests.integration.worker.tiny import TinyModel, UnitFolder
from tests.integration.worker.unitservers import UnitServerDouble
from tests.support.failures import require_same_tokens


def gpu() -> Device:
    (found,) = find_devices((parse_device(0, "cuda:0:4Gi:1"),))
    return found


@pytest.fixture(scope="module")
def model() -> TinyModel:
    return TinyModel()


@pytest.fixture
def folder(tmp_path: Path, model: TinyModel) -> UnitFolder:
    return UnitFolder(tmp_path / "units", model)


@pytest.fixture
def unit_server(tmp_path: Path, folder: UnitFolder) -> Iterator[UnitServerDouble]:
    with UnitServerDouble(tmp_path, folder) as server:
        yield server


@pytest.fixture
async def workers(tmp_path: Path, model: TinyModel) -> AsyncIterator[Workers]:
    started = Workers(tmp_path, model)
    yield started
    await started.close()


@pytest.mark.usefixtures("unit_server")
@pytest.mark.parametrize(
    "find",
    [pytest.param(lambda: CPU, id="CPU"), pytest.param(gpu, id="GPU", marks=pytest.mark.gpu)],
)
async def test_a_worker_starts_and_generates_what_the_engine_would(
    workers: Workers,
    folder: UnitFolder,
    model: TinyModel,
    tmp_path: Path,
    find: Callable[[], Device],
) -> None:
    folder.fill()
    worker = await workers.start(find())
    await worker.wait_for(Ready)

    worker.connection.send(generate("request-a", 3, 5, 7))

    tokens = await worker.tokens_of("request-a")
    ids = [i for part in tokens for i in part.ids]
    require_same_tokens(ids, expected_tokens(model, (3, 5, 7), tmp_path))
    assert tokens[-1].finish is FinishReason.LENGTH
    assert [part.start_index for part in tokens] == list(range(GREEDY.max_tokens))


@pytest.mark.usefixtures("unit_server")
async def test_a_request_is_held_while_weights_arrive_and_answered_when_they_are_there(
    workers: Workers, folder: UnitFolder, model: TinyModel, tmp_path: Path
) -> None:
    folder.fill(*model.units[:2])
    worker = await workers.start()
    worker.connection.send(generate("request-a", 3, 5, 7))
    await worker.wait_for(Registered)
    folder.beat()
    assert not [frame for frame in worker.frames if isinstance(frame, Ready)]

    folder.fill(*model.units[2:])

    tokens = await worker.tokens_of("request-a")
    ids = [i for part in tokens for i in part.ids]
    require_same_tokens(ids, expected_tokens(model, (3, 5, 7), tmp_path))
    await worker.wait_for(Ready)


@pytest.mark.usefixtures("unit_server")
async def test_every_step_of_a_start_is_told_with_its_times(
    workers: Workers, folder: UnitFolder
) -> None:
    folder.fill()
    worker = await workers.start()
    await worker.wait_for(Ready)
    worker.connection.send(generate("request-a", 3, 5, 7))
    await worker.tokens_of("request-a")
    await worker.wait_for(StepTaken, 13)

    steps = [frame for frame in worker.frames if isinstance(frame, StepTaken)]
    ended = {step.name: step for step in steps if step.ended_at_s is not None}
    starting = {"spawn", "map_units", "weights", "import", "build_engine", "load"}
    assert set(ended) == {*starting, "prefill"}
    for step in ended.values():
        assert step.ended_at_s is not None and step.ended_at_s >= step.started_at_s
    assert ended["import"].started_at_s <= ended["build_engine"].started_at_s


@pytest.mark.gpu
@pytest.mark.usefixtures("unit_server")
async def test_a_start_on_a_gpu_tells_of_the_device_the_copy_and_the_warm_up(
    workers: Workers, folder: UnitFolder
) -> None:
    folder.fill()
    worker = await workers.start(gpu())
    await worker.wait_for(Ready)

    ended = {s.name for s in worker.frames if isinstance(s, StepTaken) and s.ended_at_s is not None}
    assert {"device_context", "device_copy", "device_copy.copied_100%", "warm_up"} <= ended


@pytest.mark.usefixtures("unit_server")
async def test_a_running_request_can_be_cancelled(workers: Workers, folder: UnitFolder) -> None:
    folder.fill()
    worker = await workers.start()
    long = SamplingParameters(max_tokens=4000, seed=5, temperature=0.0, ignore_eos=True)
    worker.connection.send(generate("request-a", 3, sampling=long))
    await worker.wait_for(TokensProduced)

    worker.connection.send(CancelGeneration("request-a", 1))

    tokens = await worker.tokens_of("request-a")
    assert tokens[-1].finish is FinishReason.CANCELLED


@pytest.mark.usefixtures("unit_server")
async def test_a_request_that_can_never_be_served_ends_with_its_reason(
    workers: Workers, folder: UnitFolder
) -> None:
    folder.fill()
    worker = await workers.start()
    worker.connection.send(generate("request-a", 3, 100_000))

    (end,) = await worker.tokens_of("request-a")

    assert end.finish is FinishReason.ERROR
    assert end.error is not None and "vocabulary" in end.error


@pytest.mark.usefixtures("unit_server")
async def test_a_worker_imports_nothing_that_speaks_on_a_network(
    workers: Workers, folder: UnitFolder
) -> None:
    folder.fill()
    worker = await workers.start()
    await worker.wait_for(Ready)

    mapped = await asyncio.to_thread(Path(f"/proc/{worker.process.pid}/maps").read_text)

    assert "libtorch" in mapped
    for package in ("pydantic_core", "asyncpg", "uvloop", "blake3", "tokenizers"):
        assert package not in mapped, f"{package} is loaded in the worker process"


async def test_a_refused_fetch_ends_the_worker_with_the_fetchers_words(
    workers: Workers, folder: UnitFolder, tmp_path: Path
) -> None:
    with UnitServerDouble(tmp_path, folder, ("fetch_failed", "the stored bytes do not match")):
        worker = await workers.start()
        (failed,) = await worker.wait_for(WorkerFailed)
        exit_ = await asyncio.wait_for(worker.process.wait(), 10)

    assert isinstance(failed, WorkerFailed)
    assert "the stored bytes do not match" in words(failed.cause)
    assert exit_.code == 1


async def test_without_a_fetcher_the_worker_gives_up_at_its_deadline(workers: Workers) -> None:
    worker = await workers.start(start_timeout_ms=500)
    (failed,) = await worker.wait_for(WorkerFailed)
    assert isinstance(failed, WorkerFailed)
    assert "no fetcher" in words(failed.cause)


@pytest.mark.usefixtures("unit_server")
async def test_weights_that_stop_arriving_end_the_worker_at_its_deadline(
    workers: Workers, folder: UnitFolder, model: TinyModel
) -> None:
    folder.fill(*model.units[:1])
    worker = await workers.start(start_timeout_ms=4000)
    failed = (await worker.wait_for(WorkerFailed))[0]
    assert isinstance(failed, WorkerFailed)
    assert "bytes" in words(failed.cause)


@pytest.mark.usefixtures("unit_server")
async def test_a_cache_that_no_device_holds_is_refused_by_its_size(
    workers: Workers, folder: UnitFolder
) -> None:
    folder.fill()
    worker = await workers.start(kv_bytes=2**60)
    (failed,) = await worker.wait_for(WorkerFailed)
    assert isinstance(failed, WorkerFailed)
    assert f"{2**60} bytes of KV cache on cpu" in words(failed.cause)


@pytest.mark.usefixtures("unit_server")
async def test_a_worker_ends_when_its_agent_closes_the_socket(
    workers: Workers, folder: UnitFolder
) -> None:
    worker = await workers.start()  # waits for weights that never come
    await worker.wait_for(Registered)
    await worker.connection.close()
    exit_ = await asyncio.wait_for(worker.process.wait(), 10)
    assert exit_.code == 0


async def test_a_worker_that_breaks_the_protocol_is_told_so_and_ends(workers: Workers) -> None:
    worker = await workers.start()
    await worker.wait_for(Registered)
    worker.connection._writer.write(b"\x00\x00\x00\x02{}")
    (failed,) = await worker.wait_for(WorkerFailed)
    assert isinstance(failed, WorkerFailed)
    assert "protocol" in words(failed.cause)


async def test_a_worker_that_is_stopped_by_signal_says_which(workers: Workers) -> None:
    worker = await workers.start()
    await worker.wait_for(Registered)
    os.kill(worker.process.pid, signal.SIGKILL)
    exit_ = await asyncio.wait_for(worker.process.wait(), 10)
    assert (exit_.code, "SIGKILL" in words(exit_.cause)) == (-9, True)
