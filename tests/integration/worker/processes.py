"""Real worker processes, spoken to over their socketpairs as their agent would."""

import asyncio
import json
from pathlib import Path

import torch

from libs.common.engines import PRIORS
from libs.common.sampling import SamplingParameters
from libs.common.states import EngineKind
from libs.common.token_ids import TokenIds
from services.worker.agent.devices.device import Device
from services.worker.agent.processes.frame_connection import FrameConnection
from services.worker.agent.processes.launcher import ProcessLauncher
from services.worker.agent.processes.worker_process import WorkerProcess
from services.worker.agent.settings import DeviceKind
from services.worker.engine.engine import StageEngine
from services.worker.engine.model.config import parse_config
from services.worker.engine.options import EngineOptions
from services.worker.engine_port import Request
from services.worker.frames.frames import GenerateTokens, StartWorker, ToAgent, TokensProduced
from tests.integration.worker.tiny import MAX_CONTEXT, TinyModel
from tests.support.devices import cpu
from tests.support.weights import PackedWeights

START_TIMEOUT_S = 60.0
CPU = cpu()
GREEDY = SamplingParameters(max_tokens=24, seed=5, temperature=0.0, ignore_eos=True)


class RunningWorker:
    """A worker process and the frames it has sent."""

    def __init__(self, process: WorkerProcess, connection: FrameConnection) -> None:
        self.process, self.connection = process, connection
        self.frames: list[ToAgent] = []
        self._arrived = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for frame in self.connection.frames():
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
        await self.connection.close()


class Workers:
    def __init__(self, tmp_path: Path, model: TinyModel) -> None:
        self._launcher = ProcessLauncher(tmp_path)
        self._tmp_path, self._model = tmp_path, model
        self._running: list[RunningWorker] = []

    async def start(self, device: Device = CPU, **changed: object) -> RunningWorker:
        is_gpu = device.kind is DeviceKind.CUDA
        worker_bytes = PRIORS[EngineKind.STAGE].worker_bytes if is_gpu else 0
        process = await self._launcher.launch("worker-a", device)
        worker = RunningWorker(process, await FrameConnection.open(process.socket))
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
            "device_uuid": device.uuid,
            "device_bytes": 2**24 + worker_bytes,
            "kv_bytes": 2**22,
            "max_slots": 4,
            "max_context_tokens": MAX_CONTEXT,
            "cores": 1,
            "start_timeout_ms": int(START_TIMEOUT_S * 1000),
            "fetcher_socket": str(self._tmp_path / "fetcher.sock"),
            **changed,
        }
        worker.connection.send(StartWorker(**fields))  # type: ignore[arg-type]  # a test's own fields
        return worker

    async def close(self) -> None:
        for worker in self._running:
            await worker.close()


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
    engine = StageEngine(config, PackedWeights(model.state, packed), options)
    sampling = SamplingParameters(
        max_tokens=GREEDY.max_tokens, seed=1, temperature=0, ignore_eos=True
    )
    engine.add_request(Request("request-a", 1, prompt, sampling))
    ids: list[int] = []
    while len(ids) < GREEDY.max_tokens:
        ids += [i for output in engine.step() for i in output.token_ids]
    return ids


def generate(
    request_id: str, *prompt: int, sampling: SamplingParameters = GREEDY
) -> GenerateTokens:
    return GenerateTokens(request_id, 1, TokenIds(prompt), TokenIds(), sampling)
