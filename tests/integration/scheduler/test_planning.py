"""The starter alone, with a fleet and a clock of the test's own: one round's decisions."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest_asyncio
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.messages import AgentHeartbeat, DeviceObserved, FetcherHeartbeat
from libs.common.startmode import StartMode
from libs.common.states import EndpointState
from libs.common.tables import EndpointRow, WorkerRow
from libs.common.testing import FakeClock
from services.scheduler.cluster import Demand, Endpoint
from services.scheduler.coldstart import ColdStarter
from services.scheduler.diagnosis import NodeReport
from services.scheduler.hearing import Hearing
from services.scheduler.observed import Observed
from services.scheduler.round import Round
from services.scheduler.settings import Timing
from services.scheduler.store import models, nodes
from services.scheduler.store.fleet import load_fleet
from services.scheduler.summaries import Summaries
from services.scheduler.traces import Traces
from tests.integration.scheduler.world import KV_BYTES, MODEL_BYTES, World
from tests.integration.servers import TestDatabase

TIMING = Timing(acquaintance_s=0.0, planning_s=0.5)


class SlowClock(FakeClock):
    """Everything that is timed takes so long."""

    step_s = 0.0

    def monotonic_s(self) -> float:
        self.advance(self.step_s)
        return super().monotonic_s()


@dataclass
class Desk:
    """`world` has no leader: its rows are written by the starter, and by the test."""

    world: World
    clock: SlowClock = field(default_factory=SlowClock)
    observed: Observed = field(default_factory=lambda: Observed(Hearing(0.0, 2.0)))

    def __post_init__(self) -> None:
        self.starter = ColdStarter(Summaries(), Traces(), StartMode.HYDRA, self.clock)

    async def add_node(self, node_id: str, *, memory_bytes: int, num_standbys: int = 0) -> None:
        offered = (DeviceObserved(index=0, kind="cpu", memory_bytes=memory_bytes, cores=2),)
        said: dict[str, Any] = {
            "node_id": node_id,
            "boot_id": f"boot-{node_id}",
            "sequence": 1,
            "accepted_version": 0,
        }
        agent = AgentHeartbeat(**said, devices=offered, workers=(), num_standbys=num_standbys)
        fetcher = FetcherHeartbeat(
            **said,
            nic_bytes_per_s=10**9,
            measured_bytes_per_s=None,
            cache_capacity_bytes=10**10,
            cache_used_bytes=0,
            cached_units=(),
            fetches=(),
        )
        self.observed.hear_agent(agent, self.clock.monotonic_s())
        self.observed.hear_fetcher(fetcher, self.clock.monotonic_s())
        async with self.world.database.transaction() as session:
            await nodes.create(session, [node_id])
            await nodes.record_agents(session, [agent])
            await nodes.record_fetchers(session, [fetcher])
            await nodes.record_devices(session, node_id, offered)

    async def round(self, waited_s: dict[str, float], **of_models: Endpoint) -> Round:
        """Models wait for that long; endpoints are as rows say, or as given."""
        async with self.world.database.transaction() as session:
            round_ = self._begin(session)
            fleet = tuple(
                of_models.get(e.id.replace("-", "_"), e) for e in await load_fleet(session)
            )
            known = await models.load(session, waited_s.keys())
            demands = {id_: Demand(num_queued=1, waited_s=s) for id_, s in waited_s.items()}
            await self.starter.start_missing(round_, fleet, known, demands)
        return round_

    def _begin(self, session: AsyncSession) -> Round:
        reports = {
            node_id: NodeReport(node_id, False, False, True, True)
            for node_id in self.observed.agents.node_ids()
        }
        now_s = FakeClock.monotonic_s(self.clock)
        return Round(session, self.observed, TIMING, now_s, self.clock.now(), reports)

    async def started(self) -> set[str]:
        """Models that have an endpoint."""
        async with self.world.database.transaction() as session:
            return set(await session.scalars(select(EndpointRow.model_id)))

    async def serving(self, model_id: str, idle_s: float | None) -> dict[str, Endpoint]:
        """The model's endpoint as if it were ready, for `round`."""
        async with self.world.database.transaction() as session:
            fleet = await load_fleet(session)
        (found,) = [endpoint for endpoint in fleet if endpoint.model_id == model_id]
        is_ready = replace(found, state=EndpointState.STANDALONE, idle_s=idle_s)
        return {found.id.replace("-", "_"): is_ready}

    async def nodes_of_workers(self) -> list[str]:
        async with self.world.database.transaction() as session:
            return sorted(await session.scalars(select(WorkerRow.node_id)))

    async def draining(self) -> set[str]:
        """Models of endpoints that were asked to go."""
        query = select(EndpointRow.model_id).where(EndpointRow.state == EndpointState.DRAINING)
        async with self.world.database.transaction() as session:
            return set(await session.scalars(query))


@pytest_asyncio.fixture
async def desk(database: TestDatabase) -> AsyncIterator[Desk]:
    world = World(database.owner)
    yield Desk(world)
    await world.close()


async def test_a_round_plans_for_a_bounded_time_and_the_next_one_goes_on_with_the_others(
    desk: Desk,
) -> None:
    await desk.add_node("node-1", memory_bytes=9 * MODEL_BYTES)
    ids = [await desk.world.add_model(f"model-{i}") for i in range(5)]
    waited = {model_id: 10.0 - i for i, model_id in enumerate(ids)}
    desk.clock.step_s = 0.3

    first = await desk.round(waited)
    assert first.is_unfinished
    assert await desk.started() == set(ids[:2])

    await desk.round({id_: waited[id_] for id_ in ids[2:]})
    assert await desk.started() == set(ids[:4])


async def test_models_that_do_not_fit_keep_nobody_behind_them_from_being_reached(
    desk: Desk,
) -> None:
    await desk.add_node("node-1", memory_bytes=MODEL_BYTES)
    await desk.add_node("node-2", memory_bytes=2 * MODEL_BYTES)
    ids = [await desk.world.add_model(f"large-{i}", kv_cache_bytes=MODEL_BYTES) for i in range(3)]
    small = await desk.world.add_model("small")
    waited = {model_id: 10.0 - i for i, model_id in enumerate([*ids, small])}
    desk.clock.step_s = 0.6

    for _ in waited:
        round_ = await desk.round(
            {i: s for i, s in waited.items() if i not in await desk.started()}
        )

    assert await desk.started() == {ids[0], small}
    assert round_.is_unfinished, "the small one has just been started"


async def test_two_models_that_start_in_one_round_do_not_count_on_the_same_standby(
    desk: Desk,
) -> None:
    for node_id in ("node-1", "node-2"):
        await desk.add_node(node_id, memory_bytes=4 * MODEL_BYTES, num_standbys=1)
    ids = [await desk.world.add_model(f"model-{i}") for i in range(2)]

    await desk.round({ids[0]: 2.0, ids[1]: 1.0})

    assert await desk.nodes_of_workers() == ["node-1", "node-2"]


async def _large_one_waits_behind_busy_and_idle(desk: Desk) -> tuple[dict[str, Endpoint], str, str]:
    """Endpoints fill two nodes; a model that needs both nodes waits, and so does a small one."""
    for node_id in ("node-1", "node-2"):
        await desk.add_node(node_id, memory_bytes=MODEL_BYTES)
    idle, busy = [await desk.world.add_model(name) for name in ("idle", "busy")]
    await desk.round({idle: 2.0, busy: 1.0})
    serving = {**await desk.serving(idle, idle_s=20.0), **await desk.serving(busy, idle_s=None)}
    large = await desk.world.add_model("large", kv_cache_bytes=3 * KV_BYTES, max_pipeline_size=2)
    return serving, large, await desk.world.add_model("small")


async def test_at_first_a_small_model_takes_what_a_large_one_before_it_cannot_use_yet(
    desk: Desk,
) -> None:
    serving, large, small = await _large_one_waits_behind_busy_and_idle(desk)

    await desk.round({large: TIMING.claim_after_s - 1, small: 1.0}, **serving)

    assert len(await desk.draining()) == 1


async def test_after_a_while_the_large_one_keeps_what_it_waits_for_from_small_ones_behind(
    desk: Desk,
) -> None:
    serving, large, small = await _large_one_waits_behind_busy_and_idle(desk)
    waited = {large: TIMING.claim_after_s + 1, small: 1.0}

    await desk.round(waited, **serving)
    assert not await desk.draining()

    both_idle = {name: replace(found, idle_s=5.0) for name, found in serving.items()}
    await desk.round(waited, **both_idle)
    assert len(await desk.draining()) == 2
