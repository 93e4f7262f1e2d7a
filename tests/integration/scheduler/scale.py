"""A leader whose rounds run when the test says so, before a cluster of any size. The statements of
its rounds are counted, each execution of one for many rows once."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import event

from libs.common.bus.messages import (
    AgentHeartbeat,
    DesiredReply,
    DeviceObserved,
    EngineObserved,
    FetcherHeartbeat,
    GatewayHeartbeat,
    NodeDesired,
    WorkerObserved,
)
from libs.common.bus.subjects import NODE_DESIRED_AGENT, NODE_DESIRED_FETCHER
from libs.common.testing.bus import FakeClock
from services.fetcher.hostcache.complete_units import CompleteUnits
from services.scheduler.bootstrap import build_controller
from services.scheduler.controller import Controller
from services.scheduler.health import Health
from services.scheduler.leadership.leadership import Candidate, Leadership
from services.scheduler.rounds.loop import RoundLoop
from services.scheduler.settings import Timing
from tests.integration.scheduler.world import World
from tests.support.waiting import eventually

NUM_DEVICES = 8
GIB = 2**30
DEVICES = tuple(
    DeviceObserved(index=index, kind="cuda", memory_bytes=80 * GIB, cores=8)
    for index in range(NUM_DEVICES)
)


@dataclass
class QuietNode:
    """Says what it is given to say, once for each call."""

    node_id: str
    boot_id: str = "boot-1"
    sequence: int = 0
    devices: tuple[DeviceObserved, ...] = DEVICES
    engines: tuple[EngineObserved, ...] = ()
    workers: tuple[WorkerObserved, ...] = ()
    units: CompleteUnits = field(default_factory=CompleteUnits)

    def heartbeats(self, accepted_version: int = 0) -> tuple[AgentHeartbeat, FetcherHeartbeat]:
        self.sequence += 1
        said: dict[str, Any] = {
            "node_id": self.node_id,
            "boot_id": self.boot_id,
            "sequence": self.sequence,
            "accepted_version": accepted_version,
        }
        agent = AgentHeartbeat(
            **said, devices=self.devices, engines=self.engines, workers=self.workers
        )
        fetcher = FetcherHeartbeat(
            **said,
            nic_bytes_per_s=10**9,
            measured_bytes_per_s=None,
            cache_capacity_bytes=10**12,
            cache_used_bytes=0,
            host_cache=self.units.report(),
            fetches=(),
        )
        return agent, fetcher


@dataclass
class QuietLeader:
    world: World
    leadership: Leadership
    clock: FakeClock = field(default_factory=FakeClock)
    statements: Counter[str] = field(default_factory=Counter)
    accepted: dict[str, NodeDesired] = field(default_factory=dict)  # the newest, by node

    @classmethod
    async def begin(cls, world: World) -> "QuietLeader":
        """In place of the world's own leader."""
        if world.leaders:
            await world.leader.kill()
        candidate = Candidate(world.settings, "scheduler-quiet")
        try:
            leadership = await eventually(candidate.try_to_lead, what="leadership")
        finally:
            candidate.close()
        assert isinstance(leadership, Leadership)
        leader = cls(world, leadership)
        for subject in (NODE_DESIRED_AGENT, NODE_DESIRED_FETCHER):
            await world.broker.bus().subscribe(subject, None, leader._accept, concurrency=1000)
        event.listen(world.database.engine.sync_engine, "before_cursor_execute", leader._count)
        return leader

    async def end(self) -> None:
        engine = self.world.database.engine.sync_engine
        event.remove(engine, "before_cursor_execute", self._count)
        await self.rounds.sender.close()
        await self.leadership.release()

    @property
    def rounds(self) -> RoundLoop:
        return self.controller.rounds

    @cached_property
    def controller(self) -> Controller:
        return build_controller(
            self.world.database,
            self.leadership.epoch,
            self.world.broker.bus(),
            self.world.workqueue,
            self.clock,
            Timing(),
            Health(None, self.clock),
        )

    def hear(self, nodes: Iterable[QuietNode]) -> None:
        """Both processes of each, and what has changed is for the next round."""
        log, now_s = self.rounds.log, self.clock.monotonic_s()
        for node in nodes:
            desired = self.accepted.get(node.node_id)
            agent, fetcher = node.heartbeats(0 if desired is None else desired.version)
            for news in (log.accept_agent(agent, now_s), log.accept_fetcher(fetcher, now_s)):
                if news is not None:
                    self.rounds.changes.hear(node.node_id, news)

    def hear_gateway(self, gateway_id: str) -> None:
        beat = GatewayHeartbeat(gateway_id=gateway_id, request_ids=())
        self.rounds.log.accept_gateway(beat, self.clock.monotonic_s())

    async def round(self, after_s: float = 0.0) -> Counter[str]:
        """One, and those that follow at once; their statements, by text."""
        self.clock.advance(after_s)
        self.statements.clear()
        while await self.rounds.run_round():
            pass
        return Counter(self.statements)

    async def told(self) -> None:
        """Until every node has answered."""
        tasks = self.rounds.sender._tasks
        await eventually(lambda: not tasks, what="answers of nodes")

    async def _accept(self, desired: NodeDesired) -> DesiredReply:
        """What every node answers."""
        self.accepted[desired.node_id] = desired
        return DesiredReply(accepted_version=desired.version)

    def _count(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        self.statements[" ".join(statement.split())] += 1


def matching(statements: Counter[str], *starts: str) -> int:
    """How many of them begin with one of these."""
    return sum(n for statement, n in statements.items() if statement.startswith(starts))
