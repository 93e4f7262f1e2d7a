"""Starts endpoints for models that have too few: plan, reserve and record in one transaction."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from libs.common.clock import Clock
from libs.common.startmode import StartMode
from libs.common.states import ModelState
from services.scheduler.observation.traces import Traces
from services.scheduler.policy.autoscaler import wanted_endpoints
from services.scheduler.policy.cluster import Cluster, Demand, Deployable, Endpoint, Model
from services.scheduler.policy.node_faults import NodeFaults
from services.scheduler.policy.planning import planner
from services.scheduler.policy.planning.plans import NoRoom
from services.scheduler.policy.planning.projected_cluster import with_plans, with_suspects
from services.scheduler.policy.planning.reclaim import outlast
from services.scheduler.policy.start_queue import Line
from services.scheduler.rounds.capacity import usable_cluster
from services.scheduler.rounds.room import make_room
from services.scheduler.rounds.round import Round
from services.scheduler.rounds.start import Occasion, begin_start
from services.scheduler.rounds.summaries import Summaries
from services.scheduler.store import coldstarts, endpoints, nodes, queue


@dataclass
class _View:
    """What is known in one round; starts that it begins change the cluster."""

    round_: Round
    fleet: tuple[Endpoint, ...]
    demands: Mapping[str, Demand]
    cluster: Cluster


@dataclass(frozen=True)
class ColdStarter:
    summaries: Summaries
    traces: Traces
    mode: StartMode
    clock: Clock
    node_faults: NodeFaults = field(default_factory=NodeFaults)
    line: Line = field(default_factory=Line)

    async def start_missing(
        self,
        round_: Round,
        fleet: tuple[Endpoint, ...],
        known_models: Mapping[str, Model],
        demands: Mapping[str, Demand],
    ) -> None:
        """At most one start per model and round; the next round sees what it changed.

        First come, first served: room that is being made for one model is not given to those
        behind it, who may take what else there is. The round's transaction is open meanwhile, so
        planning ends in good time and goes on in the next one.
        """
        waiting = _in_line(fleet, known_models, demands)
        self.line.keep_only(waiting)
        if not waiting:
            return
        view = _View(round_, fleet, demands, await self._cluster(round_, fleet))
        until_s = self.clock.monotonic_s() + round_.timing.planning_s
        for model in self.line.next_up():
            await self._start(view, model)
            self.line.has_reached(model.id)
            if self.clock.monotonic_s() >= until_s:
                break
        round_.is_unfinished |= not self.line.is_all_reached
        self.line.end_pass()

    async def _start(self, view: _View, model: Model) -> None:
        """Begin, unless faulty nodes must rest; or claim what the model takes once there is room
        for it."""
        round_ = view.round_
        deployable = await self.summaries.deployable(round_.session, model)
        cluster = await self._cluster_for(view, model)
        plan = planner.plan(cluster, deployable)
        if isinstance(plan, NoRoom):
            await self._wait(view, deployable, cluster)
            return
        self.line.claim(model.id, None)
        node_ids = {stage.node_id for stage in plan.stages}
        if self.node_faults.must_wait(model.id, node_ids, round_.now_s):
            return
        occasion = await self._occasion(round_, model.id)
        await begin_start(round_, deployable, plan, occasion, self.mode)
        view.cluster = with_plans(view.cluster, [plan])
        round_.is_unfinished = True

    async def _wait(self, view: _View, deployable: Deployable, cluster: Cluster) -> None:
        """What comes free is claimed where it will do; else it goes to those behind, who may be
        small and many: from one model that waits for long it is kept, also while more is missing.
        """
        round_, model_id = view.round_, deployable.model.id
        claim = await make_room(round_, deployable, cluster, view.fleet, view.demands)
        has_patience = view.demands[model_id].waited_s < round_.timing.claim_after_s
        if claim is not None or has_patience or not self.line.may_hold(model_id):
            self.line.claim(model_id, claim)
        else:
            self.line.hold(model_id, outlast(cluster, view.fleet, deployable))

    async def _cluster(self, round_: Round, fleet: tuple[Endpoint, ...]) -> Cluster:
        devices = await nodes.load_devices(round_.session, is_locked=True)
        return usable_cluster(round_, devices, fleet, await self.summaries.holdings(round_.session))

    async def _cluster_for(self, view: _View, model: Model) -> Cluster:
        round_ = view.round_
        suspects = await endpoints.load_suspects(round_.session, model.id, round_.timing.suspect_s)
        if suspects:
            # What felled one node may have felled others, which are only not known to be lost yet.
            suspects |= {id_ for id_, report in round_.reports.items() if report.is_quiet}
        cluster = with_plans(view.cluster, self.line.claims_before(model.id))
        return with_suspects(cluster, suspects)

    async def _occasion(self, round_: Round, model_id: str) -> Occasion:
        first = await queue.first_in_line(round_.session, model_id)
        if first is None:
            return Occasion()
        traceparent = self.traces.of(first.id)
        if traceparent is None:
            traceparent = await coldstarts.traceparent_of(round_.session, first.id)
        return Occasion(first.id, first.arrived_at, traceparent)


def _in_line(
    fleet: tuple[Endpoint, ...], known_models: Mapping[str, Model], demands: Mapping[str, Demand]
) -> list[Model]:
    """Models that need an endpoint: a first one before another one, then who waits longest."""
    waiting = [known_models[model_id] for model_id in demands if model_id in known_models]
    lacking = [model for model in waiting if _lacks_endpoint(model, fleet, demands[model.id])]
    num_live = Counter(e.model_id for e in fleet if e.state.can_take_requests)
    return sorted(lacking, key=lambda m: (num_live[m.id], -demands[m.id].waited_s, m.id))


def _lacks_endpoint(model: Model, fleet: tuple[Endpoint, ...], demand: Demand) -> bool:
    is_backing_off = (model.backoff_remaining_s or 0.0) > 0
    if model.state is not ModelState.READY or is_backing_off:
        return False
    live = [e for e in fleet if e.model_id == model.id and e.state.can_take_requests]
    in_flight = sum(endpoint.num_assigned for endpoint in live)
    return wanted_endpoints(model, demand, in_flight, len(live)) > len(live)
