"""All nodes and endpoints, doing what the scheduler has decided."""

from collections.abc import Callable
from dataclasses import dataclass, field

from libs.common.states import WorkerState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.consolidation import decisions as c
from services.scheduler.simulation.catalogue import ModelCatalogue
from services.scheduler.simulation.cluster.consolidator import Consolidator
from services.scheduler.simulation.cluster.early_prefill import EarlyPrefill
from services.scheduler.simulation.cluster.endpoint_factory import EndpointFactory
from services.scheduler.simulation.cluster.modelled_endpoint import ModelledEndpoint
from services.scheduler.simulation.cluster.modelled_node import ModelledNode
from services.scheduler.simulation.cluster.modelled_worker import ModelledWorker
from services.scheduler.simulation.cluster.request import SimulatedRequest
from services.scheduler.simulation.cluster.routes import Routes
from services.scheduler.simulation.event_queue import EventQueue
from services.scheduler.simulation.scenario.scenario import Scenario


@dataclass(eq=False)
class ClusterModel:
    scenario: Scenario
    events: EventQueue
    catalogue: ModelCatalogue
    nodes: dict[str, ModelledNode]
    on_end: Callable[[SimulatedRequest], None]  # it has its last token
    on_lost: Callable[[SimulatedRequest], None]  # its endpoint failed
    routes: Routes = field(default_factory=Routes)
    endpoints: dict[str, ModelledEndpoint] = field(default_factory=dict)
    _worked: dict[str, ModelledEndpoint] = field(default_factory=dict)  # since the last look
    _factory: EndpointFactory = field(init=False)
    _consolidator: Consolidator = field(init=False)

    def __post_init__(self) -> None:
        self._factory = EndpointFactory(
            *(self.scenario, self.events, self.catalogue, self.nodes),
            on_end=self._ended,
            on_change=self._worker_changed,
        )
        pause_s = self.scenario.consolidation.switch_pause_s
        self._consolidator = Consolidator(self.events, pause_s, self._factory.stage_of_all)

    # ------------------------------------------------------------------- decisions

    def start(self, row: Endpoint) -> None:
        """Everything of it begins: fetches, and processes that need not wait for them."""
        endpoint = self._factory.endpoint(row)
        self.endpoints[row.id] = endpoint
        for worker, node in zip(endpoint.workers, endpoint.nodes, strict=True):
            node.start(worker, self._factory.fetch(worker, node, row))

    def hurry(self, endpoint_id: str) -> None:
        """Somebody waits for what was started for nobody."""
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is not None:
            for worker, node in zip(endpoint.workers, endpoint.nodes, strict=True):
                node.hurry(worker.row.fetch_id or "")

    def connect(self, decision: d.ConnectWorker) -> None:
        worker = self._find(decision.endpoint_id, decision.worker_id)
        if worker is not None:
            worker.connect()

    def launch(self, decision: d.LaunchWorker) -> None:
        worker = self._find(decision.endpoint_id, decision.worker_id)
        if worker is not None:
            self.nodes[decision.node_id].launch(worker)

    def serve(self, endpoint_id: str) -> None:
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is not None and not endpoint.is_draining:
            self.routes.add(endpoint)

    def begin_consolidation(self, decision: c.BeginConsolidation) -> None:
        endpoint = self.endpoints.get(decision.endpoint_id)
        if endpoint is not None:
            known = self.catalogue.model(endpoint.model_id)
            self._consolidator.begin(endpoint, decision, known)

    def abandon_consolidation(self, decision: c.AbandonConsolidation) -> None:
        """Its worker has no target any more. One that was left of a pipeline ends."""
        endpoint = self.endpoints.get(decision.endpoint_id)
        if endpoint is None:
            return
        worker = endpoint.worker_to_become_whole(decision.consolidation_id)
        if worker is not None:
            self._consolidator.end(endpoint, worker)
            if worker in endpoint.leaving:
                endpoint.node_of(worker).stop(worker)

    def complete_consolidation(self, decision: c.CompleteConsolidation) -> None:
        """Whoever the entry has left behind ends, but for those that get the whole model."""
        endpoint = self.endpoints.get(decision.endpoint_id)
        if endpoint is not None:
            self._consolidator.end(endpoint, endpoint.workers[0])
            for worker, node in endpoint.placed[1:]:
                if worker.target is None:
                    node.stop(worker)

    def separate(self, decision: c.SeparateWorker) -> None:
        """One that the entry has left behind serves alone, as an endpoint that is empty."""
        parent = self.endpoints.get(decision.endpoint_id)
        if parent is None:
            return
        worker = parent.worker(decision.worker_id)
        if worker is not None:
            self._consolidator.forget(parent, worker)
            worker.consolidation = None
            child = self._factory.child(parent, worker, decision)
            parent.let_go(worker)
            self.endpoints[child.id] = child
            child.say(worker)

    def withdraw(self, endpoint_id: str) -> None:
        """Gateways send nobody there any more; what is on its way arrives."""
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is not None:
            self.routes.remove(endpoint)

    def drain(self, endpoint_id: str) -> None:
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is not None:
            endpoint.is_draining = True
            for worker in endpoint.workers:
                worker.drain()

    def stop(self, endpoint_id: str) -> None:
        """Its workers end; whoever was served is told."""
        endpoint = self.endpoints.pop(endpoint_id, None)
        if endpoint is None:
            return
        self._worked.pop(endpoint_id, None)
        for request in endpoint.engine.abort():
            self.on_lost(request)
        for worker, node in endpoint.placed:
            self._consolidator.forget(endpoint, worker)
            node.stop(worker)

    def give(self, request: SimulatedRequest, endpoint: ModelledEndpoint) -> None:
        endpoint.engine.accept(request)
        self._worked[endpoint.id] = endpoint

    # ---------------------------------------------------------------------- a look

    def say_work(self) -> list[str]:
        """Agents say who works and who rests; ids of endpoints that may be looked at for it."""
        changed = []
        for endpoint in self._worked.values():
            is_busy = endpoint.engine.num_requests > 0
            if endpoint.said_requests and is_busy:
                continue
            if endpoint.workers[0].state in (WorkerState.READY, WorkerState.DRAINING):
                endpoint.say(endpoint.workers[0])
                changed.append(endpoint.id)
        self._worked = {
            id_: endpoint
            for id_, endpoint in self._worked.items()
            if endpoint.engine.num_requests > 0
        }
        return changed

    def say_work_of(self, endpoint_id: str) -> None:
        """How much it has, before anybody decides who gets a slot of it."""
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is None or endpoint.said_requests == endpoint.engine.num_requests:
            return
        if endpoint.workers[0].state is WorkerState.READY:
            endpoint.say(endpoint.workers[0])

    def say_progress(self) -> None:
        """Of all fetches that run."""
        for node in self.nodes.values():
            if node.is_fetching:
                node.say_progress()

    # ----------------------------------------------------------------------- parts

    def _find(self, endpoint_id: str, worker_id: str) -> ModelledWorker | None:
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is None:
            return None
        return next((worker for worker in endpoint.workers if worker.row.id == worker_id), None)

    def _worker_changed(self, worker: ModelledWorker) -> None:
        endpoint = self.endpoints.get(worker.row.endpoint_id)
        if endpoint is None:
            return
        if worker.state is WorkerState.READY and endpoint.are_all_ready:
            endpoint.engine.start(self._early_prefill(endpoint))
        endpoint.say(worker)

    def _early_prefill(self, endpoint: ModelledEndpoint) -> EarlyPrefill | None:
        """The entry's layers but the last one; what follows needs that one's output."""
        entry = endpoint.workers[0]
        if not entry.figures.prefills_while_loading:
            return None
        known = self.catalogue.model(endpoint.model_id)
        most = (known.num_layers_of(entry.row.unit_digests) - 1) / known.group.num_layers
        since_s = max(worker.computes_from_s for worker in endpoint.workers)
        return EarlyPrefill(since_s, self.events.now_s, max(0.0, most))

    def _ended(self, endpoint_id: str, request: SimulatedRequest) -> None:
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is not None:
            self._worked[endpoint_id] = endpoint
            if endpoint.is_draining and not endpoint.engine.num_requests:
                endpoint.say(endpoint.workers[0])
        self.on_end(request)
