"""Random deaths everywhere, seeded: at the end every request has ended once and nothing is held."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from libs.common.bus.messages import SubmitAccepted, SubmitRefused
from libs.common.causes import Cause, CauseKind
from libs.common.errors import BusError
from libs.common.states import WorkerState
from tests.integration.scheduler.simulated import SimulatedNode
from tests.integration.scheduler.starts.test_capacity import OVERBOOKED
from tests.integration.scheduler.world import MODEL_BYTES, World
from tests.support.waiting import eventually


class Client:
    """One request, kept alive by its gateway as the protocol says, until it ends."""

    def __init__(self, world: World, model_id: str, name: str) -> None:
        self.world, self.model_id, self.name = world, model_id, name
        self.attempt = 1
        self.outcome: str | None = None

    async def run(self) -> None:
        lost: str | None = None
        while self.outcome is None:
            endpoint_id = await self._place(lost)
            if endpoint_id is not None:
                lost = await self._generate(endpoint_id)

    async def _place(self, lost: str | None) -> str | None:
        """Repeat the submission until it is assigned, refused or ended."""
        gateway = self.world.gateway
        while self.outcome is None:
            try:
                reply = await gateway.submit(
                    self.model_id,
                    request_id=self.name,
                    attempt=self.attempt,
                    lost_endpoint_id=lost,
                    timeout_s=0.5,
                )
            except BusError:
                await asyncio.sleep(0.05)
                continue
            if isinstance(reply.result, SubmitRefused):
                self.outcome = reply.result.code
            elif isinstance(reply.result, SubmitAccepted) and reply.result.assigned:
                return reply.result.assigned.endpoint_id
            assigned = gateway.assigned.get(self.name)
            if assigned is not None and assigned.attempt == self.attempt:
                return assigned.endpoint_id
            await asyncio.sleep(0.05)
        return None

    async def _generate(self, endpoint_id: str) -> str | None:
        """Wait at the worker until it is ready; the endpoint's id if that died meanwhile."""
        for _ in range(600):
            found = self._worker_of(endpoint_id)
            if found is WorkerState.READY:
                await self.world.finish(self.name)
                self.outcome = "stop"
                return None
            if found in (None, WorkerState.FAILED, WorkerState.DRAINING):
                self.attempt += 1
                return endpoint_id if found is not WorkerState.DRAINING else None
            await asyncio.sleep(0.05)
        raise AssertionError(f"{self.name} waited for {endpoint_id} for ever")

    def _worker_of(self, endpoint_id: str) -> WorkerState | None:
        for node in self.world.nodes.values():
            for worker in node.agent.workers.values():
                if worker.endpoint_id == endpoint_id and not node.behaviour.is_silent:
                    return worker.state
        return None


class Monkey:
    """Breaks something, then something else."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.random = world, random.Random(seed)
        self.is_tired = False  # ends it between two tricks: none may be left half done

    async def run(self) -> None:
        tricks: list[Callable[[], Awaitable[None]]] = [
            self._kill_worker,
            self._kill_worker,
            self._restart_agent,
            self._restart_fetcher,
            self._cut_off,
            self._kill_leader,
            self._lose_messages,
        ]
        while not self.is_tired:
            await asyncio.sleep(self.random.uniform(0.05, 0.4))
            await self.random.choice(tricks)()

    def _node(self) -> SimulatedNode:
        return self.random.choice(list(self.world.nodes.values()))

    async def _kill_worker(self) -> None:
        agent = self._node().agent
        if agent.workers:
            worker_id = self.random.choice(list(agent.workers))
            killed = Cause.of(CauseKind.PROCESS_EXITED, signal="SIGKILL")
            agent.change(worker_id, state=WorkerState.FAILED, cause=killed)

    async def _restart_agent(self) -> None:
        self._node().agent.restart()

    async def _restart_fetcher(self) -> None:
        self._node().fetcher.restart()

    async def _cut_off(self) -> None:
        node = self._node()
        node.behaviour.is_silent = True
        await asyncio.sleep(self.random.uniform(0.1, 2 * self.world.timing.node_lost_s))
        node.behaviour.is_silent = False

    async def _kill_leader(self) -> None:
        await self.world.restart_leader()

    async def _lose_messages(self) -> None:
        self.world.broker.lose = lambda _subject, _message: self.random.random() < 0.3
        await asyncio.sleep(self.random.uniform(0.1, 0.5))
        self.world.broker.lose = lambda _subject, _message: False


async def survive(world: World, seed: int, num_requests: int) -> None:
    for i in range(3):
        await world.add_node(f"node-{i}", memory_bytes=2 * MODEL_BYTES)
    models = [
        await world.add_model(
            f"m{i}", keep_alive_s=0.2, max_endpoints=2, max_pipeline_size=1 + 2 * (i % 2)
        )
        for i in range(4)
    ]
    rng = random.Random(seed)
    clients = [Client(world, rng.choice(models), f"request-{i}") for i in range(num_requests)]
    monkey = Monkey(world, seed)
    breaking = asyncio.create_task(monkey.run())
    running = []
    for client in clients:
        running.append(asyncio.create_task(client.run()))
        await asyncio.sleep(rng.uniform(0.0, 0.3))
        assert await world.value(OVERBOOKED) == 0
    monkey.is_tired = True
    await breaking
    await calm(world)

    await asyncio.wait_for(asyncio.gather(*running), 60)
    await eventually(lambda: not any(n.agent.workers for n in world.nodes.values()), timeout_s=30)
    await world.until("SELECT count(*) FROM reservations", 0)

    assert {client.outcome for client in clients} <= {"stop", "worker_crashed", "model_backing_off"}
    assert await world.value("SELECT count(*) FROM requests WHERE state <> 'ENDED'") == 0
    assert await world.value("SELECT count(*) FROM workers WHERE is_desired") == 0
    assert await world.value("SELECT count(*) FROM workers WHERE ended_at IS NULL") == 0


async def calm(world: World) -> None:
    """Nothing breaks any more; a model that failed too often may try again now."""
    world.broker.lose = lambda _subject, _message: False
    for node in world.nodes.values():
        node.behaviour.is_silent = False
    if world.leader.task.done():
        await world.start_leader()
    await world.execute("UPDATE models SET backoff_until = now(), num_failed_starts = 0")


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_request_ends_and_nothing_stays_reserved(world: World, seed: int) -> None:
    await survive(world, seed, num_requests=25)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 120))
async def test_the_same_under_many_seeds(world: World, seed: int) -> None:
    await survive(world, seed, num_requests=40)
