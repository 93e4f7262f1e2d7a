"""A real agent process, `python -m services.worker`, and the other services' side of it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from libs.common.bus.bus import NatsBus
from libs.common.bus.messages import (
    AgentHeartbeat,
    DesiredReply,
    Generate,
    GenerateReply,
    LayerRange,
    NodeDesired,
    TokensGenerated,
    WorkerObserved,
    WorkerSpec,
)
from libs.common.bus.subjects import (
    ENDPOINT_GENERATE,
    NODE_AGENT_HEARTBEAT,
    NODE_DESIRED_AGENT,
    REQUEST_TOKENS,
    Service,
)
from libs.common.sampling import SamplingParameters
from libs.common.states import MemberRole, WorkerState
from libs.common.token_ids import TokenIds
from tests.integration.servers import RunningNats
from tests.integration.worker.tiny import MAX_CONTEXT, TinyModel

WAIT_S = 60.0


class RunningAgent:
    """`python -m services.worker` for node-a, whose log goes to the test's folder."""

    def __init__(self, folder: Path, nats: RunningNats, **environment: str) -> None:
        self._folder = folder
        settings = nats.settings(Service.WORKER)
        password = folder / "nats-password"
        password.write_text(settings.password)
        self._environment = {
            "PATH": os.environ["PATH"],
            "HYDRA_NODE_ID": "node-a",
            "HYDRA_DEVICES": "cpu:256Mi:1",
            "HYDRA_SOCKET_DIR": str(folder),
            "HYDRA_RUN_DIR": str(folder / "run"),
            "HYDRA_NATS_URL": settings.url,
            "HYDRA_NATS_USER": settings.user,
            "HYDRA_NATS_PASSWORD_FILE": str(password),
            **environment,
        }
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        with (self._folder / "agent.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "services.worker"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def restart(self) -> None:
        self.process = self._start()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    @property
    def log(self) -> str:
        return (self._folder / "agent.log").read_text()

    def num_descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


class Cluster:
    """The bus connections of a scheduler and a gateway, and what they have heard."""

    def __init__(self, scheduler: NatsBus, gateway: NatsBus, model: TinyModel) -> None:
        self.scheduler, self.gateway, self._model = scheduler, gateway, model
        self.heartbeats: list[AgentHeartbeat] = []
        self.tokens: dict[str, list[TokensGenerated]] = {}
        self._news = asyncio.Condition()
        self._version = 0
        self._told: set[str] = set()

    @classmethod
    async def open(cls, nats: RunningNats, model: TinyModel) -> "Cluster":
        connect = NatsBus.connect
        scheduler = await connect(
            nats.settings(Service.SCHEDULER), Service.SCHEDULER, name="scheduler"
        )
        gateway = await connect(nats.settings(Service.GATEWAY), Service.GATEWAY, name="gateway")
        cluster = cls(scheduler, gateway, model)
        await scheduler.subscribe(NODE_AGENT_HEARTBEAT, None, cluster._hear)
        await gateway.subscribe(REQUEST_TOKENS, None, cluster._take)
        return cluster

    async def close(self) -> None:
        await self.scheduler.close()
        await self.gateway.close()

    async def _hear(self, heartbeat: AgentHeartbeat) -> None:
        async with self._news:
            self.heartbeats.append(heartbeat)
            self._news.notify_all()

    async def _take(self, tokens: TokensGenerated) -> None:
        async with self._news:
            self.tokens.setdefault(tokens.request_id, []).append(tokens)
            self._news.notify_all()

    def spec(self, worker_id: str, **changed: object) -> WorkerSpec:
        fields: dict[str, object] = {
            "worker_id": worker_id,
            "endpoint_id": f"endpoint-of-{worker_id}",
            "endpoint_epoch": 1,
            "model_id": "model-a",
            "manifest_digest": self._model.manifest_digest,
            "generation": 1,
            "role": MemberRole.ENTRY,
            "stage_index": 0,
            "num_stages": 1,
            "layers": LayerRange(first_layer=0, last_layer=self._model.num_layers),
            "unit_digests": tuple(unit.entry.digest for unit in self._model.units),
            "device_index": 0,
            "device_bytes": 2**26,
            "kv_bytes": 2**22,
            "max_slots": 4,
            "max_context_tokens": MAX_CONTEXT,
            "cores": 1,
            "start_timeout_ms": int(WAIT_S * 1000),
            **changed,
        }
        return WorkerSpec.model_validate(fields)

    async def desire(self, *workers: WorkerSpec, names: bool = True) -> DesiredReply:
        """`names`: those it was told of before and is not now, as stopped."""
        self._version += 1
        wanted = {worker.worker_id for worker in workers}
        message = NodeDesired(
            node_id="node-a",
            leader_epoch=1,
            version=self._version,
            workers=workers,
            stopped_workers=tuple(self._told - wanted) if names else (),
        )
        self._told |= wanted
        reply = await self.scheduler.request(NODE_DESIRED_AGENT, "node-a", message, timeout_s=5)
        assert isinstance(reply, DesiredReply)
        return reply

    async def until(self, is_true: Callable[[AgentHeartbeat], bool]) -> AgentHeartbeat:
        """The first heartbeat, the latest one or a later one, for which it is true."""
        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(lambda: self.heartbeats and is_true(self.heartbeats[-1]))
            return self.heartbeats[-1]

    async def until_worker(self, worker_id: str, state: WorkerState) -> WorkerObserved:
        heartbeat = await self.until(
            lambda h: any(w.worker_id == worker_id and w.state is state for w in h.workers)
        )
        return next(w for w in heartbeat.workers if w.worker_id == worker_id)

    async def until_ended(self, request_id: str) -> list[TokensGenerated]:
        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(
                lambda: any(part.finish for part in self.tokens.get(request_id, ()))
            )
            return self.tokens[request_id]


def request_for(worker_id: str, request_id: str = "request-a", **sampling: Any) -> Generate:
    wanted: dict[str, Any] = {
        "max_tokens": 20,
        "seed": 7,
        "temperature": 0.0,
        "ignore_eos": True,
        **sampling,
    }
    return Generate(
        request_id=request_id,
        attempt=1,
        endpoint_id=f"endpoint-of-{worker_id}",
        epoch=1,
        prompt_ids=TokenIds((3, 5, 7)),
        sampling=SamplingParameters(**wanted),
        remaining_ms=60_000,
    )


async def send(cluster: Cluster, message: Generate) -> str:
    reply = await cluster.gateway.request(
        ENDPOINT_GENERATE, message.endpoint_id, message, timeout_s=5
    )
    assert isinstance(reply, GenerateReply)
    return reply.result
