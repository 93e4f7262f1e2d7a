"""Starts endpoints for models that have too few: plan, reserve and record in one transaction."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from libs.common.states import ModelState
from services.scheduler import planner
from services.scheduler.autoscaler import wanted_endpoints
from services.scheduler.capacity import usable_cluster
from services.scheduler.cluster import Cluster, Demand, Endpoint, Model
from services.scheduler.plans import NoRoom, Plan
from services.scheduler.room import make_room
from services.scheduler.round import Round
from services.scheduler.start import Occasion, begin_start
from services.scheduler.store import coldstarts, endpoints, nodes, queue
from services.scheduler.summaries import Summaries
from services.scheduler.traces import Traces
from services.scheduler.whatif import with_plan


@dataclass(frozen=True)
class ColdStarter:
    summaries: Summaries
    traces: Traces

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
        claims: list[Plan] = []
        for model in _in_line(fleet, known_models, demands):
            claim = await self._start(round_, fleet, model, demands, claims)
            if claim is not None:
                claims.append(claim)

    async def _start(
        self,
        round_: Round,
        fleet: tuple[Endpoint, ...],
        model: Model,
        demands: Mapping[str, Demand],
        claims: Sequence[Plan],
    ) -> Plan | None:
        """What the model will take once there is room for it; None when it has started."""
        deployable = await self.summaries.deployable(round_.session, model)
        cluster = await self._cluster(round_, fleet, model, claims)
        plan = planner.plan(cluster, deployable)
        if isinstance(plan, NoRoom):
            return await make_room(round_, deployable, cluster, fleet, demands)
        await begin_start(round_, deployable, plan, await self._occasion(round_, model.id))
        round_.is_unfinished = True
        return None

    async def _cluster(
        self, round_: Round, fleet: tuple[Endpoint, ...], model: Model, claims: Sequence[Plan]
    ) -> Cluster:
        session = round_.session
        devices = await nodes.load_devices(session, is_locked=True)
        suspects = await endpoints.load_suspects(session, model.id, round_.timing.suspect_s)
        holdings = await self.summaries.holdings(session)
        cluster = usable_cluster(round_, devices, fleet, suspects, holdings)
        return reduce(with_plan, claims, cluster)

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
