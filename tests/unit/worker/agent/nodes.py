"""An agent over a bus in memory, with processes that the tests play, and its scheduler."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from libs.common.bus.messages import (
    AgentHeartbeat,
    DesiredReply,
    NodeDesired,
    TokensGenerated,
    WorkerObserved,
    WorkerSpec,
)
from libs.common.bus.subjects import NODE_AGENT_HEARTBEAT, NODE_DESIRED_AGENT, REQUEST_TOKENS
from libs.common.states import WorkerState
from libs.common.testing.bus import FakeClock, MemoryBroker
from services.worker.agent.agent import Agent
from services.worker.agent.heartbeat import send_heartbeats
from services.worker.agent.processes.watchdog import WatchdogLimits
from services.worker.frames.frames import Ready, Registered, StartWorker
from tests.support.devices import cpu
from tests.unit.worker.fakes import FakeLauncher, FakeProcess

DEVICES = (cpu(0), cpu(1))


class Node:
    """An agent, its heartbeats, and the scheduler that leads it."""

    def __init__(self, tmp_path: Path, limits: WatchdogLimits) -> None:
        self.broker, self.clock, self.launcher = MemoryBroker(), FakeClock(), FakeLauncher()
        self.scheduler = self.broker.bus()
        self.heartbeats: list[AgentHeartbeat] = []
        self.tokens: asyncio.Queue[TokensGenerated] = asyncio.Queue()
        self.health_file = tmp_path / "health"
        self._heard = asyncio.Condition()
        self._version = 0
        self._told: set[str] = set()
        self._bus = self.broker.bus()
        self.agent = Agent(
            node_id="node-a",
            boot_id="boot-a",
            devices=DEVICES,
            fetcher_socket=tmp_path / "fetcher.sock",
            launcher=self.launcher,
            bus=self._bus,
            clock=self.clock,
            limits=limits,
        )

    async def open(self) -> None:
        await self.scheduler.subscribe(NODE_AGENT_HEARTBEAT, None, self._hear)
        await self.scheduler.subscribe(REQUEST_TOKENS, None, self._take_tokens)
        await self.agent.open()
        self._beating = asyncio.create_task(
            send_heartbeats(
                self.agent.heartbeat,
                self.agent.was_sent,
                self.agent.heartbeat_trigger,
                self._bus,
                self.health_file,
            )
        )

    async def close(self) -> None:
        self._beating.cancel()
        for process in self.launcher.processes.values():
            await process.exit(0)
        await self.agent.close()
        await self._bus.close()
        await self.scheduler.close()

    async def _hear(self, heartbeat: AgentHeartbeat) -> None:
        async with self._heard:
            self.heartbeats.append(heartbeat)
            self._heard.notify_all()

    async def _take_tokens(self, tokens: TokensGenerated) -> None:
        self.tokens.put_nowait(tokens)

    async def desire(
        self, *workers: WorkerSpec, version: int | None = None, epoch: int = 1, names: bool = True
    ) -> DesiredReply:
        """`names`: those it was told of before and is not now, as stopped."""
        self._version = self._version + 1 if version is None else version
        wanted = {worker.worker_id for worker in workers}
        message = NodeDesired(
            node_id="node-a",
            leader_epoch=epoch,
            version=self._version,
            workers=workers,
            stopped_workers=tuple(self._told - wanted) if names else (),
        )
        self._told |= wanted
        reply = await self.scheduler.request(NODE_DESIRED_AGENT, "node-a", message, timeout_s=2)
        assert isinstance(reply, DesiredReply)
        return reply

    async def until(self, is_true: Callable[[AgentHeartbeat], bool]) -> AgentHeartbeat:
        """The first heartbeat, from now on or the last one, for which it is true."""
        async with asyncio.timeout(5), self._heard:
            await self._heard.wait_for(lambda: self.heartbeats and is_true(self.heartbeats[-1]))
        return self.heartbeats[-1]

    async def until_worker(self, state: WorkerState, worker_id: str = "worker-a") -> WorkerObserved:
        heartbeat = await self.until(
            lambda h: any(w.worker_id == worker_id and w.state is state for w in h.workers)
        )
        return next(w for w in heartbeat.workers if w.worker_id == worker_id)

    async def process(self, worker_id: str = "worker-a") -> FakeProcess:
        await self.until(lambda h: any(w.pid is not None for w in h.workers))
        return self.launcher.processes[worker_id]

    async def ready_process(self, worker_id: str = "worker-a") -> FakeProcess:
        process = await self.process(worker_id)
        assert isinstance(await process.hear(), StartWorker)
        await process.say(Registered(None, None))
        await process.say(Ready())
        await self.until_worker(WorkerState.READY, worker_id)
        return process
