"""Rows and heartbeats of a cluster without a leader, for single decisions at any moment."""

from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import AgentHeartbeat, DeviceObserved, FetcherHeartbeat
from libs.common.records.tables import EndpointRow, WorkerRow
from libs.common.startmode import StartMode
from libs.common.states import EndpointState
from libs.common.testing.bus import FakeClock
from services.scheduler.observation.liveness import Hearing
from services.scheduler.observation.observed import Observed
from services.scheduler.observation.traces import Traces
from services.scheduler.policy.cluster import Demand, Endpoint
from services.scheduler.policy.diagnosis import NodeReport
from services.scheduler.rounds.coldstart import ColdStarter
from services.scheduler.rounds.round import Round
from services.scheduler.rounds.summaries import Summaries
from services.scheduler.settings import Timing
from services.scheduler.store import models, nodes
from services.scheduler.store.fleet import load_fleet
from tests.integration.scheduler.world import World

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
