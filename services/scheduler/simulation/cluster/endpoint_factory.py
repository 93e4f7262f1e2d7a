"""Makes endpoints of what the scheduler has planned: workers on their nodes, and what computes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from libs.common.states import FetchClass, StartPurpose
from services.scheduler.policy.cluster import Endpoint, Worker
from services.scheduler.policy.consolidation.decisions import SeparateWorker
from services.scheduler.simulation.catalogue import CatalogueModel, ModelCatalogue
from services.scheduler.simulation.cluster.batch_engine import BatchEngine
from services.scheduler.simulation.cluster.compute import StageCompute
from services.scheduler.simulation.cluster.fetch import Fetch
from services.scheduler.simulation.cluster.host_cache import bits
from services.scheduler.simulation.cluster.modelled_endpoint import ModelledEndpoint
from services.scheduler.simulation.cluster.modelled_node import ModelledNode
from services.scheduler.simulation.cluster.modelled_worker import ModelledWorker
from services.scheduler.simulation.cluster.request import SimulatedRequest
from services.scheduler.simulation.event_queue import EventQueue
from services.scheduler.simulation.scenario.scenario import Scenario


@dataclass(frozen=True, eq=False)
class EndpointFactory:
    scenario: Scenario
    events: EventQueue
    catalogue: ModelCatalogue
    nodes: dict[str, ModelledNode]
    on_end: Callable[[str, SimulatedRequest], None]  # endpoint; it has its last token
    on_change: Callable[[ModelledWorker], None]  # its state is another one

    def endpoint(self, row: Endpoint) -> ModelledEndpoint:
        """Nothing of it has begun."""
        known = self.catalogue.model(row.model_id)
        nodes = tuple(self.nodes[worker.node_id] for worker in row.member_workers)
        workers = tuple(
            self._worker(worker, node, known, is_alone=row.num_stages == 1)
            for worker, node in zip(row.member_workers, nodes, strict=True)
        )
        stages = [self._stage(w.row, node, known) for w, node in zip(workers, nodes, strict=True)]
        return ModelledEndpoint(
            row.id, row.model_id, row.max_slots, workers, nodes, self._engine(row.id, stages)
        )

    def child(
        self, parent: ModelledEndpoint, worker: ModelledWorker, separated: SeparateWorker
    ) -> ModelledEndpoint:
        """Of a worker that was left of the parent and has the whole model: it serves from now."""
        own, node = separated.child_id, parent.node_of(worker)
        worker.row = replace(
            worker.row, endpoint_id=own, stage_index=0, unit_digests=separated.unit_digests
        )
        stage = self._stage(worker.row, node, self.catalogue.model(parent.model_id))
        engine = self._engine(own, (stage,))
        engine.start()
        return ModelledEndpoint(own, parent.model_id, parent.max_slots, (worker,), (node,), engine)

    def fetch(self, worker: ModelledWorker, node: ModelledNode, row: Endpoint) -> Fetch:
        """What the worker's start waits for."""
        known, own = self.catalogue.model(row.model_id), worker.row
        is_asked = row.purpose is StartPurpose.REQUEST
        fetch_class = FetchClass.INTERACTIVE if is_asked else FetchClass.BACKGROUND
        assert own.fetch_id is not None, "a start waits for a fetch"
        units = bits([known.index_by_digest[digest] for digest in own.unit_digests])
        done = partial(_fetched, worker, node)
        return Fetch(own.fetch_id, own.manifest_digest, units, known.unit_sizes, done, fetch_class)

    def stage_of_all(self, endpoint: ModelledEndpoint) -> StageCompute:
        """Its entry as the only stage."""
        known = self.catalogue.model(endpoint.model_id)
        row = replace(endpoint.workers[0].row, unit_digests=tuple(known.index_by_digest))
        return self._stage(row, endpoint.nodes[0], known)

    def _engine(self, endpoint_id: str, stages: Sequence[StageCompute]) -> BatchEngine:
        return BatchEngine(
            *(self.events, stages, self.scenario.hop_s, partial(self.on_end, endpoint_id)),
            prompt_hop_s=self.scenario.prompt_hop_s,
        )

    def _worker(
        self, row: Worker, node: ModelledNode, known: CatalogueModel, *, is_alone: bool
    ) -> ModelledWorker:
        sizes = known.size_by_digest
        return ModelledWorker(
            self.events,
            row,
            weight_bytes=sum(sizes[digest] for digest in row.unit_digests),
            figures=node.group.device.start,
            is_alone=is_alone,
            on_change=self.on_change,
        )

    def _stage(self, row: Worker, node: ModelledNode, known: CatalogueModel) -> StageCompute:
        group, kind = known.group, node.group.device
        return StageCompute(
            node.devices[row.device_index],
            self.scenario.speeds.of(kind.name, group.architecture),
            of_model=known.num_layers_of(row.unit_digests) / group.num_layers,
            memory_bytes=row.device_bytes,
            whole_model_bytes=group.full_bytes + kind.process_bytes,
        )


def _fetched(worker: ModelledWorker, node: ModelledNode) -> None:
    assert worker.row.fetch_id is not None
    node.say_fetch(worker.row.fetch_id)
    worker.has_weights()
