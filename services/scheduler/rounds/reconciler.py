"""Brings what is and what shall be together: one round reads everything and decides everything.

A round is one transaction. It may be repeated, interrupted or begun by another leader at any
point: it starts from rows and from what nodes said last, never from what an earlier round did.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.bus import Bus
from libs.common.clock import Clock
from libs.common.errors import BusError
from services.scheduler.observation.heartbeat_records import Census
from services.scheduler.observation.observed import Observed
from services.scheduler.observation.timeline import Timeline
from services.scheduler.policy.cluster import Demand, Endpoint, Model
from services.scheduler.policy.failure_attribution import EchoWatch
from services.scheduler.policy.gateway_liveness import Gateways
from services.scheduler.policy.start_deadline import StartWatch
from services.scheduler.policy.unconfirmed_losses import Doubts
from services.scheduler.rounds.assignment import assign_queued
from services.scheduler.rounds.coldstart import ColdStarter
from services.scheduler.rounds.desired_sender import DesiredSender
from services.scheduler.rounds.expiry import Expiry
from services.scheduler.rounds.failing_models import end_of_failing_models
from services.scheduler.rounds.fleet import settle
from services.scheduler.rounds.launching import launch_fetched
from services.scheduler.rounds.progress import ProgressTeller
from services.scheduler.rounds.ring import link_stages
from services.scheduler.rounds.round import Outgoing, Round
from services.scheduler.rounds.routes import RoutePublisher, routes_of
from services.scheduler.rounds.stale_context import find_outgrown
from services.scheduler.settings import Timing
from services.scheduler.store import desired, models, nodes, queue
from services.scheduler.store.fleet import load_fleet
from services.scheduler.store.ledger import Ledger

logger = logging.getLogger(__name__)

MAX_ROUNDS = 64  # in a row; then the event loop's other work, and the next wake-up


@dataclass
class Reconciler:
    ledger: Ledger
    bus: Bus
    clock: Clock
    timing: Timing
    observed: Observed
    doubts: Doubts
    starter: ColdStarter
    sender: DesiredSender
    timeline: Timeline
    routes: RoutePublisher
    census: Census = field(default_factory=Census)
    expiry: Expiry = field(default_factory=Expiry)
    progress: ProgressTeller = field(default_factory=ProgressTeller)
    watch: StartWatch = field(init=False)
    echoes: EchoWatch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = StartWatch(self.timing.start_timeout_s)
        self.echoes = EchoWatch(self.timing.echo_grace_s)

    async def reconcile(self) -> None:
        """Rounds until nothing is left to decide. Raises DatabaseUnavailable, LeadershipLost."""
        for _ in range(MAX_ROUNDS):
            if not await self._round():
                return

    async def _round(self) -> bool:
        """Whether another one shall follow at once."""
        async with self.ledger.transaction() as session:
            round_ = self._begin(session)
            fleet = await self._decide(round_)
            await nodes.bump_desired(session, round_.changed_nodes)
            records = await nodes.load(session)
            versions = {node_id: record.desired_version for node_id, record in records.items()}
            epoch, unknown = self.ledger.epoch, self.sender.unknown(round_.observed, versions)
            wanted = await desired.load(session, {id_: versions[id_] for id_ in unknown}, epoch)
        for remember in round_.after_commit:
            remember()
        self.sender.ensure(round_.observed, wanted, versions)
        await self._publish(round_, fleet)
        return round_.is_unfinished

    def _begin(self, session: AsyncSession) -> Round:
        snapshot, now_s = self.observed.snapshot(), self.clock.monotonic_s()
        return Round(session, snapshot, self.timing, now_s, self.clock.now())

    async def _decide(self, round_: Round) -> tuple[Endpoint, ...]:
        """The fleet after everything but the new starts, which the next round sees."""
        await self.census.take(round_)
        fleet, demands, known = await self._read(round_)
        await self.timeline.record(round_, fleet)
        await self.expiry.end_hopeless(round_, known, demands)
        self._lay_doubts(round_, fleet)
        await find_outgrown(round_, fleet, known, self.starter.summaries)
        if await settle(round_, fleet, known, demands, self.watch, self.echoes):
            fleet, demands, known = await self._read(round_)
        self._remember(round_)
        await end_of_failing_models(round_, fleet, known, demands)
        await link_stages(round_, fleet)
        if await launch_fetched(round_, fleet):
            fleet, demands, known = await self._read(round_)
        given = await assign_queued(round_, fleet, demands, self.doubts)
        if given:
            fleet, demands, known = await self._read(round_)
        await self.starter.start_missing(round_, fleet, known, demands)
        await self.progress.tell(round_, fleet)
        return fleet

    async def _read(
        self, round_: Round
    ) -> tuple[tuple[Endpoint, ...], Mapping[str, Demand], Mapping[str, Model]]:
        fleet = await load_fleet(round_.session)
        gateways = Gateways(round_.observed, round_.timing)
        demands = await queue.load_demand(round_.session, gateways)
        model_ids = {endpoint.model_id for endpoint in fleet} | demands.keys()
        return fleet, demands, await models.load(round_.session, model_ids)

    def _lay_doubts(self, round_: Round, fleet: tuple[Endpoint, ...]) -> None:
        self.doubts.keep_only({endpoint.id for endpoint in fleet})
        for endpoint in fleet:
            for worker in endpoint.workers[:1]:
                heard = round_.observed.agents.of(worker.node_id)
                entry = round_.observed.worker(worker.node_id, worker.id)
                if heard and entry and not entry.state.is_finished:
                    self.doubts.seen_alive(endpoint.id, heard.at_s)

    def _remember(self, round_: Round) -> None:
        """At once, for what follows in the same round."""
        for endpoint_id in round_.ailing:
            self.doubts.report(endpoint_id, round_.now_s)
        for fault in round_.node_faults:
            self.starter.node_faults.record(fault, round_.now_s)
        for model_id in round_.started:
            self.starter.node_faults.forgive(model_id)

    async def _publish(self, round_: Round, fleet: tuple[Endpoint, ...]) -> None:
        """Hints and wake-ups only: each is repeated or asked for again by somebody."""
        routes = self.routes.due(routes_of(fleet, self.doubts, round_.observed), round_.now_s)
        for outgoing in [*round_.outgoing, *([routes] if routes else [])]:
            await self._publish_one(outgoing)

    async def _publish_one(self, outgoing: Outgoing) -> None:
        try:
            await self.bus.publish(outgoing.subject, outgoing.token, outgoing.message)
        except BusError as exc:
            logger.warning("not published: %s", exc)
