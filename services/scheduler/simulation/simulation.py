"""One run: a scenario, a policy and a seed on virtual time."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial

from libs.common.process.garbage_collection import no_full_collections
from libs.common.startmode import StartMode
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.consolidation import decisions as c
from services.scheduler.policy.decide import Decided
from services.scheduler.simulation.catalogue import ModelCatalogue
from services.scheduler.simulation.cluster.assembly import modelled_nodes
from services.scheduler.simulation.cluster.cluster_model import ClusterModel
from services.scheduler.simulation.cluster.device_ledger import DeviceLedger
from services.scheduler.simulation.cluster.memory_gauge import MemoryGauge
from services.scheduler.simulation.cluster.prefetcher import Prefetcher
from services.scheduler.simulation.cluster.request import SimulatedRequest
from services.scheduler.simulation.errors import SimulationError
from services.scheduler.simulation.event_queue import EventQueue
from services.scheduler.simulation.leader.cached_models import CachedModels
from services.scheduler.simulation.leader.first_snapshot import first_snapshot
from services.scheduler.simulation.leader.heard import HeardNodes
from services.scheduler.simulation.leader.known_figures import (
    ConstantFigures,
    GivenFigures,
    Values,
)
from services.scheduler.simulation.leader.leader import Leader
from services.scheduler.simulation.leader.request_rows import RequestRows
from services.scheduler.simulation.results.recorder import Recorder
from services.scheduler.simulation.scenario.scenario import Scenario
from services.scheduler.simulation.workload.workload import Workload

Progress = Callable[[float], None]  # virtual seconds


@dataclass(eq=False)
class Simulation:
    """`measured`: what the leader has measured, such as a real one's rows; None: the constants of
    the scenario, as after many starts."""

    scenario: Scenario
    mode: StartMode
    workload: Workload
    measured: Values | None = None
    events: EventQueue = field(default_factory=EventQueue)
    recorder: Recorder = field(init=False)
    cluster: ClusterModel = field(init=False)
    prefetcher: Prefetcher = field(init=False)
    leader: Leader = field(init=False)
    ledger: DeviceLedger = field(init=False)
    host_memory: MemoryGauge = field(init=False)  # that host caches use
    _open: dict[str, SimulatedRequest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        scenario, catalogue = self.scenario, ModelCatalogue(self.workload.names)
        self.recorder = Recorder(2 * scenario.leader.message_s)
        figures = self._figures()
        cached = CachedModels(catalogue)
        snapshot = first_snapshot(scenario, self.mode, figures.of_nodes())
        self.host_memory = MemoryGauge(self.events)
        nodes = modelled_nodes(
            *(scenario, self.events, self.host_memory),
            on_agent=lambda node: self.leader.hear_agent(node),
            on_fetcher=lambda node: self.leader.hear_fetcher(node),
            on_added=cached.added,
            on_removed=cached.removed,
        )
        self.cluster = ClusterModel(
            *(scenario, self.events, catalogue, nodes),
            on_end=self._ended,
            on_lost=self._lost,
        )
        self.prefetcher = Prefetcher(catalogue, nodes)
        self.ledger = DeviceLedger(
            {(x.node_id, x.index): x.memory_bytes for own in snapshot.devices.values() for x in own}
        )
        heard = HeardNodes.of(
            {id_: node.agent_heartbeat for id_, node in nodes.items()},
            {id_: node.fetcher_heartbeat for id_, node in nodes.items()},
        )
        self.leader = Leader(
            *(self.events, scenario.leader, catalogue, RequestRows(scenario.deadline_s), snapshot),
            *(heard, cached, figures.of_model),
            on_decided=self._decided,
            before_round=self._before_round,
            before_sweep=self._before_sweep,
            is_prefetching=scenario.keeps_units,
        )

    def _figures(self) -> ConstantFigures | GivenFigures:
        if self.measured is None:
            return ConstantFigures(self.scenario)
        return GivenFigures(self.measured)

    def run(self, on_progress: Progress = lambda now_s: None) -> None:
        """Raises SimulationError."""
        with no_full_collections():
            self._run(on_progress)

    def _run(self, on_progress: Progress) -> None:
        self.leader.begin()
        for request in self.workload.requests():
            self.events.run_until(request.arrived_at_s)
            self._arrive(request)
            on_progress(request.arrived_at_s)
        self._drain(on_progress)
        self.ledger.close(self.events.now_s)
        self.host_memory.close()

    def _drain(self, on_progress: Progress) -> None:
        """Until the last request has ended, or long enough."""
        until_s = max(self.scenario.duration_s, self.events.now_s) + self.scenario.drain_s
        self.events.run_until(self.scenario.duration_s)
        while self._open and self.events.now_s < until_s:
            self.events.run_until(min(until_s, self.events.now_s + 1.0))
            on_progress(self.events.now_s)
        for request in self._open.values():
            self.recorder.add(request)
        self._open.clear()

    # ------------------------------------------------------------------- requests

    def _arrive(self, request: SimulatedRequest) -> None:
        """A gateway sends it to an endpoint that serves and has a free slot, or asks for one."""
        self._open[request.id] = request
        endpoint = self.cluster.routes.emptiest(request.model_id)
        if endpoint is not None:
            self.cluster.give(request, endpoint)
            self.leader.rows.give(request, endpoint.id)
            return
        request.is_cold = not self.cluster.routes.has_any(request.model_id)
        self.leader.submit(request)

    def _before_round(self, model_ids: Collection[str]) -> None:
        """Whoever is full says so before anybody decides who may have a request of these models."""
        for model_id in model_ids:
            for endpoint in self.leader.snapshot.endpoints.by("model", model_id):
                self.cluster.say_work_of(endpoint.id)

    def _ended(self, request: SimulatedRequest) -> None:
        if self._open.pop(request.id, None) is None:
            return
        self.recorder.add(request)
        self.leader.end(request)

    def _lost(self, request: SimulatedRequest) -> None:
        """Its gateway comes again."""
        if request.id in self._open:
            request.attempt += 1
            request.first_token_at_s = None
            self.leader.submit(request)

    def _refused(self, decision: d.EndRequest) -> None:
        request = self._open.pop(decision.request_id, None)
        if request is not None:
            request.end_reason = decision.reason
            self.recorder.add(request)

    # ------------------------------------------------------------------ decisions

    def _before_sweep(self) -> None:
        self.leader.changes.endpoints.update(self.cluster.say_work())
        self.cluster.say_progress()

    def _decided(self, decided: Decided) -> None:
        """Memory is reserved, and free again, as rows say; what nodes and gateways do follows."""
        timing = self.scenario.leader
        delay_s = timing.round_s + 2 * timing.message_s
        actions = [
            action
            for decision in decided.decisions
            if (action := self._action(decided, decision)) is not None
        ]
        if actions:
            self.events.after(delay_s, partial(_do_all, actions))

    def _action(self, decided: Decided, decision: d.Decision) -> Callable[[], None] | None:
        cluster = self.cluster
        match decision:
            case d.StartEndpoint(endpoint_id=endpoint_id):
                return self._start(decided.snapshot.endpoints[endpoint_id])
            case d.AssignRequest():
                return partial(self._assign, decision)
            case d.HurryStart(endpoint_id=endpoint_id):
                return partial(cluster.hurry, endpoint_id)
            case d.ConnectWorker():
                return partial(cluster.connect, decision)
            case d.LaunchWorker():
                return partial(cluster.launch, decision)
            case d.ServeEndpoint(endpoint_id=endpoint_id):
                for worker in decided.snapshot.endpoints[endpoint_id].workers:
                    self.ledger.serve(worker.id, self.events.now_s)
                return partial(cluster.serve, endpoint_id)
            case d.DrainEndpoint(endpoint_id=endpoint_id):
                cluster.withdraw(endpoint_id)
                return partial(cluster.drain, endpoint_id)
            case d.StopWorkers(endpoint_id=endpoint_id) | d.FailEndpoint(endpoint_id=endpoint_id):
                cluster.withdraw(endpoint_id)
                return partial(cluster.stop, endpoint_id)
            case d.EndWorker(worker_id=worker_id):
                self.ledger.release(worker_id, self.events.now_s)
            case c.BeginConsolidation():
                return partial(cluster.begin_consolidation, decision)
            case c.AbandonConsolidation():
                return partial(cluster.abandon_consolidation, decision)
            case c.CompleteConsolidation():
                return partial(cluster.complete_consolidation, decision)
            case c.SeparateWorker():
                return partial(cluster.separate, decision)
            case d.StartPrefetch(prefetch=prefetch):
                return partial(self.prefetcher.start, prefetch)
            case d.EndPrefetch():
                return partial(self.prefetcher.end, decision)
            case d.EndRequest():
                return partial(self._refused, decision)
        return None

    def _start(self, endpoint: Endpoint) -> Callable[[], None]:
        for worker in endpoint.workers:
            self.ledger.reserve(worker, endpoint.model_id, self.events.now_s)
        self.recorder.add_start(endpoint, self.events.now_s)
        return partial(self.cluster.start, endpoint)

    def _assign(self, decision: d.AssignRequest) -> None:
        request = self._open.get(decision.request_id)
        endpoint = self.cluster.endpoints.get(decision.endpoint_id)
        if request is None:
            return
        if endpoint is None:
            raise SimulationError(
                f"{request.id} was given to {decision.endpoint_id}, which is gone"
            )
        self.cluster.give(request, endpoint)


def _do_all(actions: list[Callable[[], None]]) -> None:
    for action in actions:
        action()
