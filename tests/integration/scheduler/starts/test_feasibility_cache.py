"""What new requests are told of the cluster: from one reading for all that come at once."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest_asyncio
from sqlalchemy import event

from libs.common.bus.messages import AgentHeartbeat, DeviceObserved, FetcherHeartbeat
from libs.common.states import ModelState
from libs.common.testing.bus import FakeClock
from services.fetcher.hostcache.complete_units import CompleteUnits
from services.scheduler.intake.feasibility_cache import Feasibility, FeasibilityCache
from services.scheduler.observation.heartbeat_log import HeartbeatLog
from services.scheduler.observation.liveness import LivenessLog
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.planning.usable_cluster import by_node
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.rounds.reading.summary_cache import SummaryCache
from services.scheduler.store import devices, heartbeats, models, nodes
from tests.integration.scheduler.world import MODEL_BYTES, World
from tests.integration.servers import TestDatabase

MAX_AGE_S = 1.0


@dataclass
class Intake:
    """Rows and heartbeats of a cluster without a leader, and who is asked about it."""

    world: World
    clock: FakeClock = field(default_factory=FakeClock)
    log: HeartbeatLog = field(default_factory=lambda: HeartbeatLog(LivenessLog(0.0, 2.0)))
    snapshot: Snapshot | None = None  # of the last round

    def __post_init__(self) -> None:
        self.feasibility = FeasibilityCache(self.log, self.clock, MAX_AGE_S, lambda: self.snapshot)

    async def add_node(self, node_id: str, *, memory_bytes: int) -> None:
        offered = (DeviceObserved(index=0, kind="cpu", memory_bytes=memory_bytes, cores=2),)
        said: dict[str, Any] = {
            "node_id": node_id,
            "boot_id": f"boot-{node_id}",
            "sequence": 1,
            "accepted_version": 0,
        }
        agent = AgentHeartbeat(**said, devices=offered, workers=())
        fetcher = FetcherHeartbeat(
            **said,
            nic_bytes_per_s=10**9,
            measured_bytes_per_s=None,
            cache_capacity_bytes=10**10,
            cache_used_bytes=0,
            host_cache=CompleteUnits().report(),
            fetches=(),
        )
        self.log.accept_agent(agent, self.clock.monotonic_s())
        self.log.accept_fetcher(fetcher, self.clock.monotonic_s())
        async with self.world.database.transaction() as session:
            await nodes.create(session, [node_id])
            await heartbeats.record_agents(session, [agent])
            await heartbeats.record_fetchers(session, [fetcher])
            await devices.record_devices(session, {node_id: offered})

    async def ask(self, model_id: str) -> Feasibility:
        async with self.world.database.transaction() as session:
            model = await models.find(session, model_id, self.clock.monotonic_s())
            assert model is not None and model.state is ModelState.READY
            deployable = await SummaryCache().deployable(session, model)
            return await self.feasibility.of(session, deployable)


@pytest_asyncio.fixture
async def intake(database: TestDatabase) -> AsyncIterator[Intake]:
    world = World(database.owner)
    yield Intake(world)
    await world.close()


async def test_one_reading_and_one_plan_answer_all_requests_of_a_moment(intake: Intake) -> None:
    await intake.add_node("small", memory_bytes=MODEL_BYTES - 1)
    model_id = await intake.world.add_model()
    first = await intake.ask(model_id)
    assert first.shortage is not None

    await intake.add_node("large", memory_bytes=MODEL_BYTES)
    assert await intake.ask(model_id) is first

    intake.clock.advance(MAX_AGE_S)
    later = await intake.ask(model_id)
    assert later.shortage is None and isinstance(later.best, Plan)


async def test_a_model_that_was_changed_is_asked_for_anew(intake: Intake) -> None:
    await intake.add_node("node-1", memory_bytes=MODEL_BYTES)
    model_id = await intake.world.add_model()
    assert (await intake.ask(model_id)).shortage is None

    await intake.world.execute("UPDATE models SET kv_cache_bytes = :size", size=MODEL_BYTES)

    assert (await intake.ask(model_id)).shortage is not None


async def test_models_of_equal_shape_share_a_plan_of_what_the_rounds_know(intake: Intake) -> None:
    """No row of a device is read, and the answers are those that the rows give."""
    for i in range(3):
        await intake.add_node(f"node-{i}", memory_bytes=MODEL_BYTES)
    ids = [
        await intake.world.add_model(f"model-{i}", max_pipeline_size=1 + i % 2) for i in range(8)
    ]
    from_rows = [await intake.ask(id_) for id_ in ids]
    intake.clock.advance(MAX_AGE_S)
    async with intake.world.database.transaction() as session:
        offered = by_node(await devices.load_devices(session))
    intake.snapshot = Snapshot(0.0, devices=offered)
    read: list[str] = []

    def note(_c: object, _cur: object, statement: str, *_: object) -> None:
        if "gpus" in statement:
            read.append(statement)

    event.listen(intake.world.database.engine.sync_engine, "before_cursor_execute", note)
    answers = [await intake.ask(id_) for id_ in ids]

    assert read == []
    assert len({id(answer.best) for answer in answers}) == 2
    assert list(map(figures, answers)) == list(map(figures, from_rows))


def figures(answer: Feasibility) -> tuple[str | None, float, int]:
    assert isinstance(answer.best, Plan)
    return answer.shortage, answer.best.fetch_s, len(answer.best.stages)
