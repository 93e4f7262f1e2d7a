"""Starts endpoints for models that have too few: plan, reserve and record in one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass

from libs.common.states import ModelState
from services.scheduler import planner
from services.scheduler.autoscaler import wanted_endpoints
from services.scheduler.capacity import usable_cluster
from services.scheduler.cluster import Demand, Endpoint, Model
from services.scheduler.plans import Plan
from services.scheduler.room import make_room
from services.scheduler.round import Round
from services.scheduler.start import Occasion, begin_start
from services.scheduler.store import nodes, queue
from services.scheduler.summaries import Summaries
from services.scheduler.traces import Traces


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
        """At most one start per model and round; the next round sees what it changed."""
        for model_id, demand in demands.items():
            model = known_models.get(model_id)
            if model is not None and _lacks_endpoint(model, fleet, demand):
                await self._start(round_, fleet, model, demands)

    async def _start(
        self,
        round_: Round,
        fleet: tuple[Endpoint, ...],
        model: Model,
        demands: Mapping[str, Demand],
    ) -> None:
        deployable = await self.summaries.deployable(round_.session, model)
        devices = await nodes.load_devices(round_.session, is_locked=True)
        cluster = usable_cluster(round_, devices, fleet)
        plan = planner.plan(cluster, deployable)
        if isinstance(plan, Plan):
            await begin_start(round_, deployable, plan, await self._occasion(round_, model.id))
            round_.is_unfinished = True
        else:
            await make_room(round_, deployable, plan, cluster, fleet, demands)

    async def _occasion(self, round_: Round, model_id: str) -> Occasion:
        first = await queue.first_in_line(round_.session, model_id)
        if first is None:
            return Occasion()
        return Occasion(first.id, first.arrived_at, self.traces.of(first.id))


def _lacks_endpoint(model: Model, fleet: tuple[Endpoint, ...], demand: Demand) -> bool:
    is_backing_off = (model.backoff_remaining_s or 0.0) > 0
    if model.state is not ModelState.READY or is_backing_off:
        return False
    live = [e for e in fleet if e.model_id == model.id and e.state.can_take_requests]
    in_flight = sum(endpoint.num_assigned for endpoint in live)
    return wanted_endpoints(model, demand, in_flight, len(live)) > len(live)
