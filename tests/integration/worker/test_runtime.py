"""A real worker process, spoken to over its socketpair, with real unit files."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import torch

from libs.common.states import FinishReason
from services.worker.engine.config import parse_config
from services.worker.engine.engine import Engine
from services.worker.engine.options import EngineOptions
from services.worker.engine.request import Request
from services.worker.engine.request import Sampling as EngineSampling
from services.worker.frames import (
    CancelGeneration,
    GenerateTokens,
    Ready,
    Registered,
    Sampling,
    StartWorker,
    StepTaken,
    ToAgent,
    TokensProduced,
    WorkerFailed,
)
from services.worker.launcher import ProcessLauncher, WorkerProcess
from services.worker.link import Link
from services.worker.settings import DeviceSettings, parse_device
from tests.integration.worker.tiny import MAX_CONTEXT, TinyModel, UnitFolder
from tests.integration.worker.unitservers import UnitServerDouble
from tests.support.weights import PackedWeights

START_TIMEOUT_S = 60.0
CPU = parse_device(0, "cpu:64Mi:1")
GPU = parse_device(0, "cuda:0:1Gi:1")
GREEDY = Sampling(0.0, 1.0, 24, 5, (), True, None)


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


class RunningWorker:
    """A worker process and the frames it has sent."""

    def __init__(self, process: WorkerProcess, link: Link) -> None:
        self.process, self.link = process, link
        self.frames: list[ToAgent] = []
        self._arrived = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for frame in self.link.frames():
            async with self._arrived:
                self.frames.append(frame)
                self._arrived.notify_all()

    async def wait_for(self, frame_class: type, count: int = 1) -> list[ToAgent]:
        def found() -> list[ToAgent]:
            return [frame for frame in self.frames if isinstance(frame, frame_class)]

        async with asyncio.timeout(START_TIMEOUT_S), self._arrived:
            await self._arrived.wait_for(lambda: len(found()) >= count)
        return found()

    async def tokens_of(self, request_id: str) -> list[TokensProduced]:
        """Everything up to the request's end."""

        def found() -> list[TokensProduced]:
            return [
                frame
                for frame in self.frames
                if isinstance(frame, TokensProduced) and frame.request_id == request_id
            ]

        async with asyncio.timeout(START_TIMEOUT_S), self._arrived:
            await self._arrived.wait_for(lambda: any(frame.finish for frame in found()))
        return found()

    async def close(self) -> None:
        await self.process.stop()
        await asyncio.wait({self._reading}, timeout=5)
        await self.link.close()


class Workers:
    def __init__(self, tmp_path: Path, model: TinyModel) -> None:
        self._launcher = ProcessLauncher(tmp_path)
        self._tmp_path, self._model = tmp_path, model
        self._running: list[RunningWorker] = []

    async def start(self, device: DeviceSettings = CPU, **changed: object) -> RunningWorker:
        process = await self._launcher.launch("worker-a", device)
        worker = RunningWorker(process, await Link.open(process.socket))
        self._running.append(worker)
        fields: dict[str, object] = {
            "worker_id": "worker-a",
            "manifest_digest": self._model.manifest_digest,
            "unit_digests": tuple(unit.entry.digest for unit in self._model.units),
            "stage_index": 0,
            "num_stages": 1,
            "first_layer": 0,
            "last_layer": self._model.num_layers,
            "device": device.torch_name,
            "device_bytes": 2**24,
            "kv_bytes": 2**22,
            "max_slots": 4,
            "max_context_tokens": MAX_CONTEXT,
            "cores": 1,
            "start_timeout_ms": int(START_TIMEOUT_S * 1000),
            "fetcher_socket": str(self._tmp_path / "fetcher.sock"),
            **changed,
        }
        worker.link.send(StartWorker(**fields))  # type: ignore[arg-type]  # a test's own fields
        return worker

    async def close(self) -> None:
        for worker in self._running:
            await worker.close()


@pytest.fixture
async def workers(tmp_path: Path, model: TinyModel) -> AsyncIterator[Workers]:
    started = Workers(tmp_path, model)
    yield started
    await started.close()


def expected_tokens(model: TinyModel, prompt: tuple[int, ...], tmp_path: Path) -> list[int]:
    """Greedy, by an engine in this process over the same weights."""
    packed = tmp_path / "packed"
    packed.mkdir(exist_ok=True)
    config = parse_config(json.loads(model.manifest.config_json))
    options = EngineOptions(
        dtype=torch.float32,
        device=torch.device("cpu"),
        kv_bytes=2**22,
        max_running=4,
        max_context_tokens=MAX_CONTEXT,
        eos_token_ids=frozenset(),
    )
    engine = Engine(config, PackedWeights(model.state, packed), options)
    sampling = EngineSampling(max_tokens=GREEDY.max_tokens, seed=1, temperature=0, ignore_eos=True)
    engine.add_request(Request("request-a", 1, prompt, sampling))
    ids: list[int] = []
    while len(ids) < GREEDY.max_tokens:
        ids += [i for output in engine.step() for i in output.token_ids]
    return ids


def generate(request_id: str, *prompt: int, sampling: Sampling = GREEDY) -> GenerateTokens:
    return GenerateTokens(request_id, 1, prompt, (), sampling)


@pytest.mark.usefixtures("unit_server")
@pytest.mark.parametrize(
    "device", [pytest.param(CPU, id="CPU"), pytest.param(GPU, id="GPU", marks=pytest.mark.gpu)]
)
async def test_a_worker_starts_and_generates_what_the_engine_would(
    workers: Workers, folder: UnitFolder, model: TinyModel, tmp_path: Path, device: DeviceSettings
) -> None:
    folder.fill()
    worker = await workers.start(device)
    await worker.wait_for(Ready)

    worker.link.send(generate("request-a", 3, 5, 7))

    tokens = await worker.tokens_of("request-a")
    assert [i for part in tokens for i in part.ids] == expected_tokens(model, (3, 5, 7), tmp_path)
    assert tokens[-1].finish is FinishReason.LENGTH
    assert [part.start_index for part in tokens] == list(range(GREEDY.max_tokens))


@pytest.mark.usefixtures("unit_server")
async def test_a_request_is_held_while_weights_arrive_and_answered_when_they_are_there(
    workers: Workers, folder: UnitFolder, model: TinyModel, tmp_path: Path
) -> None:
    folder.fill(*model.units[:2])
    worker = await workers.start()
    worker.link.send(generate("request-a", 3, 5, 7))
    await worker.wait_for(Registered)
    folder.beat()
    assert not [frame for frame in worker.frames if isinstance(frame, Ready)]

    folder.fill(*model.units[2:])

    tokens = await worker.tokens_of("request-a")
    assert [i for part in tokens for i in part.ids] == expected_tokens(model, (3, 5, 7), tmp_path)
    await worker.wait_for(Ready)


@pytest.mark.usefixtures("unit_server")
async def test_every_step_of_a_start_is_told_with_its_times(
    workers: Workers, folder: UnitFolder
) -> None:
    folder.fill()
    worker = await workers.start()
    await worker.wait_for(Ready)
    await worker.wait_for(StepTaken, 11)

    steps = [frame for frame in worker.frames if isinstance(frame, StepTaken)]
    ended = {step.name: step for step in steps if step.ended_at_s is not None}
    assert set(ended) == {"spawn", "map_units", "weights", "import", "build_engine", "load"}
    for step in ended.values():
        assert step.ended_at_s is not None and step.ended_at_s >= step.started_at_s
    assert ended["import"].started_at_s <= ended["build_engine"].started_at_s


@pytest.mark.usefixtures("unit_server")
async def test_a_running_request_can_be_cancelled(workers: Workers, folder: UnitFolder) -> None:
    folder.fill()
    worker = await workers.start()
    long = Sampling(0.0, 1.0, 250, 5, (), True, None)
    worker.link.send(generate("request-a", 3, sampling=long))
    await worker.wait_for(TokensProduced)

    worker.link.send(CancelGeneration("request-a", 1))

    tokens = await worker.tokens_of("request-a")
    assert tokens[-1].finish is FinishReason.CANCELLED


@pytest.mark.usefixtures("unit_server")
async def test_a_request_that_can_never_be_served_ends_with_its_reason(
    workers: Workers, folder: UnitFolder
) -> None:
    folder.fill()
    worker = await workers.start()
    worker.link.send(generate("request-a", 3, 100_000))

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
    assert "the stored bytes do not match" in failed.cause
    assert exit_.code == 1


async def test_without_a_fetcher_the_worker_gives_up_at_its_deadline(workers: Workers) -> None:
    worker = await workers.start(start_timeout_ms=500)
    (failed,) = await worker.wait_for(WorkerFailed)
    assert isinstance(failed, WorkerFailed)
    assert "no fetcher" in failed.cause


@pytest.mark.usefixtures("unit_server")
async def test_weights_that_stop_arriving_end_the_worker_at_its_deadline(
    workers: Workers, folder: UnitFolder, model: TinyModel
) -> None:
    folder.fill(*model.units[:1])
    worker = await workers.start(start_timeout_ms=4000)
    failed = (await worker.wait_for(WorkerFailed))[0]
    assert isinstance(failed, WorkerFailed)
    assert "bytes" in failed.cause


@pytest.mark.usefixtures("unit_server")
async def test_a_cache_that_no_device_holds_is_refused_by_its_size(
    workers: Workers, folder: UnitFolder
) -> None:
    folder.fill()
    worker = await workers.start(kv_bytes=2**60)
    (failed,) = await worker.wait_for(WorkerFailed)
    assert isinstance(failed, WorkerFailed)
    assert f"{2**60} bytes of KV cache on cpu" in failed.cause


@pytest.mark.usefixtures("unit_server")
async def test_a_worker_ends_when_its_agent_closes_the_socket(
    workers: Workers, folder: UnitFolder
) -> None:
    worker = await workers.start()  # waits for weights that never come
    await worker.wait_for(Registered)
    await worker.link.close()
    exit_ = await asyncio.wait_for(worker.process.wait(), 10)
    assert exit_.code == 0


async def test_a_worker_that_breaks_the_protocol_is_told_so_and_ends(workers: Workers) -> None:
    worker = await workers.start()
    await worker.wait_for(Registered)
    worker.link._writer.write(b"\x00\x00\x00\x02{}")
    (failed,) = await worker.wait_for(WorkerFailed)
    assert isinstance(failed, WorkerFailed)
    assert "protocol" in failed.cause


async def test_a_worker_that_is_stopped_by_signal_says_which(workers: Workers) -> None:
    worker = await workers.start()
    await worker.wait_for(Registered)
    os.kill(worker.process.pid, signal.SIGKILL)
    exit_ = await asyncio.wait_for(worker.process.wait(), 10)
    assert (exit_.code, "SIGKILL" in exit_.cause) == (-9, True)
