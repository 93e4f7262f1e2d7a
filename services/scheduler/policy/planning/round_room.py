"""The room that a round has for one waiting model after the other. Pure but for its memory."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from services.scheduler.policy.cluster import Deployable, Endpoint
from services.scheduler.policy.network.flow import Flow
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.network.start_admission import flows_of, refusing_nodes
from services.scheduler.policy.nodes.cluster import Cluster
from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.planning import planner
from services.scheduler.policy.planning.feasibility import (
    EmptyDevices,
    KnownDevices,
    PlannedShape,
)
from services.scheduler.policy.planning.idle_endpoints import (
    IdleEndpoints,
    NumTaken,
    in_reclaim_order,
)
from services.scheduler.policy.planning.model_shape import MAX_STAGES
from services.scheduler.policy.planning.planning_cost import PlanningCost
from services.scheduler.policy.planning.plans import Plan, StagePlan
from services.scheduler.policy.planning.projected_cluster import (
    with_plans,
    with_suspects,
    without,
)
from services.scheduler.policy.planning.reclaim import (
    Reclaim,
    give_way,
    outlast,
)
from services.scheduler.policy.planning.start_queue import StartQueue
from services.scheduler.policy.scaling.giving_way import BOUND_S
from services.scheduler.policy.snapshot import Snapshot

MAX_REFUSALS = 4  # plans that are tried where nodes refuse one after the other


@dataclass
class RoundRoom:
    """Asked in the order of the queue: what is taken by starts and by claims of models further in
    front is taken once, and not again for each model behind."""

    before: Snapshot  # as the round began to plan
    usable: Cluster
    known: KnownDevices
    network: Network
    cost: PlanningCost = field(default_factory=PlanningCost)
    has_deadlines: bool = field(init=False)  # of any start's fetches
    _now: Cluster = field(init=False)  # without what plans take that are not carried out yet
    _plans: list[Plan] = field(default_factory=list)
    _flows: list[Flow] = field(default_factory=list)  # of starts, that `network` is without
    _later: Cluster | None = None  # without those who are leaving; made once anybody asks
    _gone: set[str] = field(default_factory=set)  # endpoints that `_later` is without
    _shapes: set[PlannedShape] = field(default_factory=set)  # that were asked about
    _num_passed: int = 0  # places of the queue whose claims are taken

    def __post_init__(self) -> None:
        self._now = self.usable
        self.has_deadlines = bool(self.before.fetch_deadlines_s)

    def pass_to(self, queue: StartQueue, place: int) -> None:
        """What those claim that are in front of that place is not for those behind."""
        self._take(queue.claims_between(self._num_passed, place))
        self._num_passed = place

    def has_room_for(self, plan: Plan) -> bool:
        """Whether what was claimed is free by now, on each of its devices."""
        return all(self._is_free(stage) for stage in plan.stages)

    def now(self, snapshot: Snapshot, model_id: str) -> Cluster:
        """Where the model may start."""
        return with_suspects(self._room_now(), _suspects(snapshot, model_id))

    def choose(
        self, snapshot: Snapshot, deployable: Deployable, *, is_asked: bool = True
    ) -> planner.Choice | None:
        """How it would start now; None where there is room, but its fetches would make other starts
        miss their targets. One that has waited for long need not care, nor one that nobody waits
        for: its fetches give way."""
        now = self.now(snapshot, deployable.model.id)
        if not is_asked or not self._is_bound(snapshot, deployable):
            return self._choice(now, deployable)
        refusing, has_refused = self._refusing_any(deployable, snapshot), False
        for _ in range(MAX_REFUSALS):
            gone = {id_: None for id_ in refusing if now.get(id_) is not None}
            now, has_refused = now.changed(gone), has_refused or bool(gone)
            choice = self._choice(now, deployable)
            if not isinstance(choice.plan, Plan):
                return None if has_refused else choice
            refusing = refusing_nodes(self._network_now(), choice.plan, snapshot.now_s)
            if not refusing:
                return choice
        return None

    def _choice(self, now: Cluster, deployable: Deployable) -> planner.Choice:
        choice = planner.choose(now, deployable)
        self.cost.add_choice(now, choice)
        return choice

    def _is_bound(self, snapshot: Snapshot, deployable: Deployable) -> bool:
        """Whether anybody's deadline keeps it away."""
        has_patience = deployable.objective.waited_s < snapshot.limits.claim_after_s
        return snapshot.mode.has_admission and self.has_deadlines and has_patience

    def _refusing_any(self, deployable: Deployable, snapshot: Snapshot) -> Collection[str]:
        """Nodes whose cards could not carry the smallest part of it; of those that hold some of it
        nothing is known yet."""
        num_parts = max(1, min(MAX_STAGES, deployable.model.max_pipeline_size))
        part_bytes = deployable.summary.weight_bytes / num_parts
        keeps = self._network_now().one_more.keeps_deadlines(part_bytes, snapshot.now_s)
        if np.count_nonzero(keeps) == len(keeps):
            return ()
        refusing = self.network.ids_of((~keeps).nonzero()[0].tolist())
        return [id_ for id_ in refusing if id_ not in deployable.cached]

    def start(self, plan: Plan, endpoint_id: str, deadline_s: float | None) -> None:
        self._take([plan])
        flows = flows_of(plan, endpoint_id, deadline_s)
        self._flows += [flow for flow in flows if self.network.get(flow.node_id) is not None]
        self.has_deadlines = self.has_deadlines or deadline_s is not None

    def reclaim(self, snapshot: Snapshot, deployable: Deployable) -> Reclaim | None:
        """Whose end makes room for the model. Where it has no endpoint and its first request has
        waited for the bound, that may be one that works."""
        later = self._once_they_left(snapshot, deployable.model.id)
        waited_s = _waited_without_endpoint_s(snapshot, deployable.model.id)
        self.cost.add_endpoints(len(self._idle))
        taken = NumTaken(snapshot)
        idle = IdleEndpoints(snapshot, self._idle, taken, waited_s)
        found = give_way(later, idle, deployable, self.cost)
        if found is not None or waited_s < BOUND_S:
            return found
        self.cost.add_endpoints(len(self._working))
        working = IdleEndpoints(snapshot, self._working, taken, waited_s)
        return give_way(later, [*idle, *working], deployable, self.cost)

    def outlast(self, snapshot: Snapshot, deployable: Deployable) -> Plan | None:
        """What the model takes once enough of all endpoints have ended by themselves."""
        later = self._once_they_left(snapshot, deployable.model.id)
        self.cost.add_endpoints(len(snapshot.endpoints))
        return outlast(later, snapshot.endpoints, deployable, self.cost)

    def shortage(self, deployable: Deployable) -> str | None:
        """Why all devices that are known could not hold the model if nothing ran on them."""
        return self._shortage(self.known.all(self.before.sizes), deployable)

    def usable_shortage(self, deployable: Deployable) -> str | None:
        """The same of those that can be used now."""
        return self._shortage(self.known.usable(self.before.sizes, self.usable), deployable)

    def _shortage(self, empty: EmptyDevices, deployable: Deployable) -> str | None:
        """Counted once for each shape, whatever is remembered of earlier rounds: the same round
        decides the same with an empty memory."""
        shape = PlannedShape.of(deployable)
        if shape not in self._shapes:
            self._shapes.add(shape)
            self.cost.add_plan(empty.cluster, num_plans=2)  # of all devices, and of the usable ones
        return empty.shortage(deployable, shape)

    def _is_free(self, stage: StagePlan) -> bool:
        now = self._room_now()
        place = now.layout.place_of.get((stage.node_id, stage.device_index))
        return place is not None and int(now.room_bytes[place]) >= stage.planned_bytes

    def _take(self, plans: Sequence[Plan]) -> None:
        """Once anybody asks: mostly nobody does after the last one."""
        self._plans += plans

    def _network_now(self) -> Network:
        flows, self._flows = self._flows, []
        self.network = self.network.with_flows(flows)
        return self.network

    def _room_now(self) -> Cluster:
        plans, self._plans = self._plans, []
        self._now = with_plans(self._now, plans)
        if self._later is not None:
            self._later = with_plans(self._later, plans)
        return self._now

    def _once_they_left(self, snapshot: Snapshot, model_id: str) -> Cluster:
        leaving: Collection[str] = snapshot.endpoints.ids("room", "leaving")
        new = [snapshot.endpoints[id_] for id_ in leaving if id_ not in self._gone]
        self._gone.update(endpoint.id for endpoint in new)
        now = self._room_now()
        self._later = without(now if self._later is None else self._later, new)
        return with_suspects(self._later, _suspects(snapshot, model_id))

    @cached_property
    def _idle(self) -> list[Endpoint]:
        return in_reclaim_order(self.before, self.before.endpoints.by("room", "idle"))

    @cached_property
    def _working(self) -> list[Endpoint]:
        """All that are not idle: only asked for once somebody has waited for long."""
        working = (e for e in self.before.endpoints if e.idle_since_s is None)
        return in_reclaim_order(self.before, (e for e in working if e.state.is_serving))


def _waited_without_endpoint_s(snapshot: Snapshot, model_id: str) -> float:
    live = (e.state.can_take_requests for e in snapshot.endpoints.by("model", model_id))
    return 0.0 if any(live) else snapshot.now_s - snapshot.demand(model_id).arrived_at_s


def _suspects(snapshot: Snapshot, model_id: str) -> Collection[str]:
    """What felled one node may have felled others, which are only not known to be lost yet."""
    suspects = snapshot.suspect_nodes(model_id)
    if not suspects:
        return ()
    return suspects | snapshot.observed.silent_nodes(snapshot.limits.node_quiet_s)
