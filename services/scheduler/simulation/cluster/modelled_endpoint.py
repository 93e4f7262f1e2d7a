"""An endpoint: its workers on their nodes, and the engine that they are together."""

from dataclasses import dataclass

from libs.common.states import WorkerState
from services.scheduler.simulation.cluster.batch_engine import BatchEngine
from services.scheduler.simulation.cluster.modelled_node import ModelledNode
from services.scheduler.simulation.cluster.modelled_worker import ModelledWorker

# Heartbeats say for how long a worker has been idle, as of when they were heard. All of them count
# as heard at this one moment, so that what an idle worker says stays the same while it rests.
REFERENCE_S = 1e9


@dataclass(eq=False)
class ModelledEndpoint:
    id: str
    model_id: str
    max_slots: int
    workers: tuple[ModelledWorker, ...]  # in the order of the stages, the entry first
    nodes: tuple[ModelledNode, ...]  # of the workers
    engine: BatchEngine
    leaving: tuple[ModelledWorker, ...] = ()  # of an earlier generation
    leaving_nodes: tuple[ModelledNode, ...] = ()  # of these
    is_routed: bool = False  # gateways know it
    is_draining: bool = False
    said_requests: int = 0  # as its agent said last

    @property
    def are_all_ready(self) -> bool:
        return all(worker.state is WorkerState.READY for worker in self.workers)

    @property
    def placed(self) -> tuple[tuple[ModelledWorker, ModelledNode], ...]:
        """All workers that have not ended, each with its node."""
        own = zip(self.workers, self.nodes, strict=True)
        return (*own, *zip(self.leaving, self.leaving_nodes, strict=True))

    def worker(self, worker_id: str) -> ModelledWorker | None:
        return next((worker for worker, _ in self.placed if worker.row.id == worker_id), None)

    def worker_to_become_whole(self, consolidation_id: str) -> ModelledWorker | None:
        """The one whose target that is."""
        for worker, _ in self.placed:
            if worker.target is not None and worker.target.consolidation_id == consolidation_id:
                return worker
        return None

    def node_of(self, worker: ModelledWorker) -> ModelledNode:
        return next(node for own, node in self.placed if own is worker)

    def become_one(self, generation: int) -> None:
        """The entry goes on alone."""
        self.workers[0].generation = generation
        self.leaving, self.leaving_nodes = self.workers[1:], self.nodes[1:]
        self.workers, self.nodes = self.workers[:1], self.nodes[:1]

    def let_go(self, worker: ModelledWorker) -> None:
        """One that was left: it is no part of this any more."""
        staying = [placed for placed in self.placed[1:] if placed[0] is not worker]
        self.leaving = tuple(own for own, _ in staying)
        self.leaving_nodes = tuple(node for _, node in staying)

    def say(self, worker: ModelledWorker) -> None:
        """What its agent says of it now."""
        node = self.node_of(worker)
        if worker is not self.workers[0]:
            node.say_worker(worker.observed())
            return
        engine = self.engine
        self.said_requests = engine.num_requests
        is_idle = self.said_requests == 0
        idle_ms = round(1000 * (REFERENCE_S - engine.idle_since_s)) if is_idle else 0
        node.say_worker(
            worker.observed(
                num_running=engine.num_running, num_waiting=engine.num_waiting, idle_ms=idle_ms
            )
        )
