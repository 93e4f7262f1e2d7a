"""Everything that a round decides from: one immutable value with its indexes. Pure.

It is carried from round to round and changed by deltas: rows that others wrote, heartbeats, and
this leader's own decisions (`effects.after`). Nothing in it is ever rebuilt from the whole fleet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import inf
from typing import Any

from libs.common.bus.messages import ModelSummary
from libs.common.reasons import Reason
from libs.common.startmode import StartMode
from libs.common.states import ModelState
from services.scheduler.policy.cluster import (
    Demand,
    Deployable,
    Device,
    DeviceSize,
    Endpoint,
    EndpointFailure,
    Model,
    NodeRecord,
    OpenRequest,
)
from services.scheduler.policy.compute_neighbours import ComputeNeighbours
from services.scheduler.policy.failures.diagnosis import NodeReport
from services.scheduler.policy.failures.node_faults import FaultSeries
from services.scheduler.policy.failures.start_stall import StartActivity
from services.scheduler.policy.gateway_liveness import GatewayLiveness
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.nodes.cached_units import CachedUnits
from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.observed import Observed
from services.scheduler.policy.planning.start_order import StartPlaces
from services.scheduler.policy.planning.start_queue import StartQueue
from services.scheduler.policy.prediction.figures import Figures
from services.scheduler.policy.prediction.objective import Objective
from services.scheduler.policy.prediction.predictor import ModelSpeed
from services.scheduler.policy.prefetching.prefetch import Prefetch, prefetch_table
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.need_history import NeedHistory
from services.scheduler.policy.scaling.traffic import Traffic
from services.scheduler.policy.scaling.unasked import ModelCommand
from services.scheduler.policy.scope.sweep_state import SweepState
from services.scheduler.policy.tables.snapshot_tables import (
    endpoint_table,
    failure_table,
    request_table,
)
from services.scheduler.policy.tables.table import Table

# How long a failed endpoint's requests count as demand before their gateways have come again.
ORPHAN_S = 30.0
USUAL_ANSWER_TOKENS = 128
NO_DEMAND = Demand(0, 0, 0, inf)
USUAL_PROMPT_TOKENS = 256  # where no request says how long its prompt is


@dataclass(frozen=True)
class Snapshot:
    now_s: float  # monotonic seconds of the leader
    limits: Limits = field(default_factory=Limits)
    mode: StartMode = StartMode.HYDRA
    nonce: str = ""  # new in each round: the ids of what a round starts are derived from it
    observed: Observed = field(default_factory=Observed)
    # As rows say.
    models: Mapping[str, Model] = field(default_factory=dict)  # that run, or are asked for
    summaries: Mapping[str, ModelSummary] = field(default_factory=dict)  # by manifest digest
    nodes: Mapping[str, NodeRecord] = field(default_factory=dict)
    devices: Mapping[str, tuple[Device, ...]] = field(default_factory=dict)  # by node, unreserved
    cached: CachedUnits | None = None  # of models that wait; None: nobody has any
    sizes: tuple[DeviceSize, ...] = ()  # of every device of nodes heard of lately
    measured: Figures = field(default_factory=Figures)  # of nodes, and of models that are here
    endpoints: Table[Endpoint] = field(default_factory=endpoint_table)
    requests: Table[OpenRequest] = field(default_factory=request_table)
    # False: their rows were not read yet, so those that appear have not just arrived.
    knows_requests: bool = True
    failures: Table[EndpointFailure] = field(default_factory=failure_table)  # by endpoint
    activities: Mapping[str, ModelActivity] = field(default_factory=dict)  # by model
    commands: Mapping[str, tuple[ModelCommand, ...]] = field(default_factory=dict)  # by model
    # Models of which an endpoint may have to start that nobody waits for.
    unasked: frozenset[str] = frozenset()
    prefetches: Table[Prefetch] = field(default_factory=prefetch_table)  # that are open
    # Models whose weights are prefetched, or may be: they are likely to be asked soon.
    prefetchable: frozenset[str] = frozenset()
    # What this leader remembers.
    traffic: Mapping[str, Traffic] = field(default_factory=dict)  # by model, of some
    needs: Mapping[str, NeedHistory] = field(default_factory=dict)  # by model that has several
    losses: Mapping[str, float] = field(default_factory=dict)  # unconfirmed, by endpoint
    echoes_since_s: Mapping[str, float] = field(default_factory=dict)  # by endpoint
    start_activities: Mapping[str, StartActivity] = field(
        default_factory=dict
    )  # of starts, by endpoint
    # By when the fetches of starts must be done, by endpoint; those that a leader has begun itself.
    fetch_deadlines_s: Mapping[str, float] = field(default_factory=dict)
    node_faults: Mapping[str, FaultSeries] = field(default_factory=dict)  # by model
    unlisted_since_s: Mapping[str, float] = field(default_factory=dict)  # by request
    queue: StartQueue = field(default_factory=StartQueue)
    # When those are looked at again, by model, of which nothing was to be prefetched.
    prefetch_looks_s: Mapping[str, float] = field(default_factory=dict)
    # These only save work.
    places: StartPlaces = field(default_factory=StartPlaces)
    swept: SweepState | None = None  # None: the next sweep looks at everything

    def changed(self, **fields: Any) -> "Snapshot":
        """As `replace`, which takes longer than most of what a round decides."""
        assert fields.keys() <= _FIELDS, f"a snapshot has no {fields.keys() - _FIELDS}"
        changed = object.__new__(Snapshot)
        values = changed.__dict__
        values.update(self.__dict__)
        values.update(fields)
        values.pop("_neighbours", None)
        if changed.observed is self.observed and changed.limits is self.limits:
            values["gateways"] = self.gateways  # it keeps what it has found out
        else:
            values.pop("gateways", None)
        return changed

    def remembering(self, before: "Snapshot") -> "Snapshot":
        """With what no row has, as an earlier snapshot of the same leader knew it."""
        # Endpoints may have ended in a commit of which nobody knew whether it was done.
        deadlines = before.fetch_deadlines_s.items()
        return replace(
            self,
            losses=before.losses,
            echoes_since_s=before.echoes_since_s,
            start_activities=before.start_activities,
            fetch_deadlines_s={id_: at_s for id_, at_s in deadlines if id_ in self.endpoints},
            node_faults=before.node_faults,
            unlisted_since_s=before.unlisted_since_s,
            queue=before.queue,
            traffic=before.traffic,
            needs=before.needs,
            prefetch_looks_s=before.prefetch_looks_s,
        )

    # ------------------------------------------------------------------ questions

    @cached_property
    def gateways(self) -> GatewayLiveness:
        return GatewayLiveness(self.observed, self.limits)

    @property
    def knows_all_nodes(self) -> bool:
        return self.observed.knows_all_nodes(self.limits.acquaintance_s)

    def report_of(self, node_id: str) -> NodeReport:
        """What its silence and its last words mean."""
        return NodeReport.of(self.nodes[node_id], self.observed, self.limits)

    @property
    def unsettled_endpoints(self) -> tuple[Endpoint, ...]:
        """Those that start or end."""
        return self.endpoints.by("unsettled", "")

    def num_assigned(self, endpoint_id: str) -> int:
        """Requests that were given to it and have not ended."""
        return self.requests.count("endpoint", endpoint_id)

    def demand(self, model_id: str) -> Demand:
        """What the model's waiting requests ask for now. Those of a lost gateway are nobody's."""
        gateways, queued, orphans = self.gateways, self.queued(model_id), self.orphans(model_id)
        if not queued and not orphans:
            return NO_DEMAND
        num_unheard = 0
        # Requests are many, gateways few, and mostly all of them are heard.
        if not all(map(gateways.is_heard, self.requests.keys_of("gateway"))):
            waiting = [r for r in (*queued, *orphans) if not gateways.is_heard(r.gateway_id)]
            num_unheard = sum(not gateways.is_lost(request.gateway_id) for request in waiting)
            queued = tuple(r for r in queued if gateways.is_heard(r.gateway_id))
            orphans = tuple(r for r in orphans if gateways.is_heard(r.gateway_id))
        arrivals = (request.arrived_at_s for request in (*queued[:1], *orphans))
        return Demand(len(queued), len(orphans), num_unheard, min(arrivals, default=inf))

    def orphans(self, model_id: str) -> tuple[OpenRequest, ...]:
        """Those of the model's requests whose endpoint failed a moment ago."""
        return tuple(
            request
            for failure in self.failures.by("model", model_id)
            if self.now_s - failure.at_s < ORPHAN_S
            for request in self.requests.by("endpoint", failure.endpoint_id)
        )

    def has_unconfirmed_loss(self, endpoint_id: str) -> bool:
        """Perhaps lost: nobody is sent there."""
        return endpoint_id in self.losses or endpoint_id in self.echoes_since_s

    def is_orphaned(self, request: OpenRequest) -> bool:
        """Given to an endpoint that failed a moment ago; its gateway will come again."""
        failure = self.failures.get(request.endpoint_id or "")
        return failure is not None and self.now_s - failure.at_s < ORPHAN_S

    def is_stranded(self, request: OpenRequest) -> bool:
        """Queued, or given to an endpoint that failed."""
        return request.is_queued or request.endpoint_id in self.failures

    def queued(self, model_id: str) -> tuple[OpenRequest, ...]:
        """First come, first served."""
        return self.requests.by("queue", model_id)

    def last_failure(self, model_id: str) -> EndpointFailure | None:
        failed = self.failures.by("model", model_id)
        return max(failed, key=lambda failure: failure.at_s, default=None)

    def waits_for(self, model_id: str) -> Reason | None:
        """Why nothing of the model starts; None if something does, or nobody can say."""
        if any(e.state.can_take_requests for e in self.endpoints.by("model", model_id)):
            return None
        return self.queue.waits.get(model_id)

    def suspect_nodes(self, model_id: str) -> frozenset[str]:
        """Nodes with whose workers a failure of the model's endpoints began lately."""
        return frozenset(
            node_id
            for failure in self.failures.by("model", model_id)
            if self.now_s - failure.at_s < self.limits.suspect_s
            for node_id in failure.suspect_nodes
        )

    def summary(self, model: Model) -> ModelSummary | None:
        """What a READY model's manifest says; None while that is not known."""
        if model.state is not ModelState.READY:
            return None
        return self.summaries.get(model.manifest_digest or "")

    def deployable(self, model: Model) -> Deployable | None:
        """What the planner is given of a READY model; None while its manifest is not known."""
        summary = self.summary(model)
        if summary is None:
            return None
        if self.mode.max_stages is not None:
            num_stages = min(model.max_pipeline_size, self.mode.max_stages)
            model = replace(model, max_pipeline_size=num_stages)
        digest = model.manifest_digest or ""
        cached = None if self.cached is None else self.cached.of(digest)
        objective = self.objective(model, summary)
        return Deployable(model, digest, summary, cached or {}, objective, self._neighbours)

    @cached_property
    def _neighbours(self) -> ComputeNeighbours:
        return ComputeNeighbours(self.endpoints, self.devices, self.observed)

    def objective(self, model: Model, summary: ModelSummary) -> Objective:
        """What a start of it now is planned for."""
        first = next(iter(self.queued(model.id)), None)
        num_tokens = USUAL_PROMPT_TOKENS if first is None else first.num_prompt_tokens
        num_together = min(model.max_slots, max(1, len(self.queued(model.id))))
        figures = self.measured.of_model(model.id, summary.weight_bytes)
        cluster = self.measured.cluster
        return Objective(
            ttft_s=model.slo_ttft_s,
            tpot_s=model.slo_tpot_s,
            waited_s=max(0.0, self.now_s - self.demand(model.id).arrived_at_s),
            speed=ModelSpeed(
                prefill_s=figures.prefill_s_per_token * num_tokens,
                step_s=figures.step_s(num_together),
                hop_s=cluster.hop_s,
                prompt_hop_s=cluster.prompt_hop_s,
            ),
            serving_s=self._serving_s(model, USUAL_ANSWER_TOKENS * figures.step_s()),
            can_consolidate=self.limits.can_consolidate,
            correction=figures.ttft_ratio,
            prefers_cached_copies=self.mode.prefers_cached_copies,
        )

    def _serving_s(self, model: Model, answer_s: float) -> float:
        """How long an endpoint is expected to hold its memory once it serves: while it works, as
        endpoints of the model did, or for a usual answer; and while it is kept."""
        activity = self.activities.get(model.id) or ModelActivity()
        kept_s = activity.plan.keep_s if model.is_keep_alive_auto else model.keep_alive_s
        return kept_s + (answer_s if activity.busy_s is None else activity.busy_s)

    def knows_cached(self, model_id: str) -> bool:
        """Whether it was read which of the model's units the nodes have; nothing is planned for it
        before."""
        model = self.models[model_id]
        if self.cached is None or self.summary(model) is None:
            return True
        return self.cached.of(model.manifest_digest or "") is not None


_FIELDS = frozenset(field.name for field in fields(Snapshot))
