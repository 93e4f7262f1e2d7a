"""Starts endpoints for models that have too few: plan, reserve and record in one transaction."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce

from libs.common.startmode import StartMode
from libs.common.states import ModelState
from services.scheduler import planner
from services.scheduler.autoscaler import wanted_endpoints
from services.scheduler.capacity import usable_cluster
from services.scheduler.cluster import Cluster, Demand, Endpoint, Model
from services.scheduler.nodefaults import NodeFaults
from services.scheduler.plans import NoRoom, Plan
from services.scheduler.room import make_room
from services.scheduler.round import Round
from services.scheduler.start import Occasion, begin_start
from services.scheduler.store import coldstarts, endpoints, nodes, queue
from services.scheduler.summaries import Summaries
from services.scheduler.traces import Traces
from services.scheduler.whatif import with_fetches, with_plan


@dataclass
class _Given:
    """Away in this round."""

    claims: list[Plan] = field(default_factory=list)  # once there is room
    begun: list[Plan] = field(default_factory=list)


@dataclass(frozen=True)
class ColdStarter:
    summaries: Summaries
    traces: Traces
    mode: StartMode
    node_faults: NodeFaults = field(default_factory=NodeFaults)

    async def start_missing(
        self,
        round_: Round,
        fleet: tuple[Endpoint, ...],
        known_models: Mapping[str, Model],
        demands: Mapping[str, Demand],
    ) -> None:
        """At most one start per model and round; the next round sees what it changed.

        First come, first served: room that is being made for one model is not given to those
        behind it, who may take what else there is.
        """
        given = _Given()
        for model in _in_line(fleet, known_models, demands):
            await self._start(round_, fleet, model, demands, given)

    async def _start(
        self,
        round_: Round,
        fleet: tuple[Endpoint, ...],
        model: Model,
        demands: Mapping[str, Demand],
        given: _Given,
    ) -> None:
        """Begin, unless faulty nodes must rest; or claim what the model takes once there is room
        for it."""
        deployable = await self.summaries.deployable(round_.session, model)
        cluster = await self._cluster(round_, fleet, model, given)
        plan = planner.plan(cluster, deployable)
        if isinstance(plan, NoRoom):
            claim = await make_room(round_, deployable, cluster, fleet, demands)
            given.claims += [claim] if claim is not None else []
            return
        node_ids = {stage.node_id for stage in plan.stages}
        if self.node_faults.must_wait(model.id, node_ids, round_.now_s):
            return
        occasion = await self._occasion(round_, model.id)
        await begin_start(round_, deployable, plan, occasion, self.mode)
        given.begun.append(plan)
        round_.is_unfinished = True

    async def _cluster(
        self, round_: Round, fleet: tuple[Endpoint, ...], model: Model, given: _Given
    ) -> Cluster:
        session = round_.session
        devices = await nodes.load_devices(session, is_locked=True)
        suspects = await endpoints.load_suspects(session, model.id, round_.timing.suspect_s)
        if suspects:
            # What felled one node may have felled others, which are only not known to be lost yet.
            suspects |= {id_ for id_, report in round_.reports.items() if report.is_quiet}
        holdings = await self.summaries.holdings(session)
        cluster = usable_cluster(round_, devices, fleet, suspects, holdings)
        return reduce(with_fetches, given.begun, reduce(with_plan, given.claims, cluster))

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
