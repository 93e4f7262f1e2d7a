"""How workers of a pipeline that serves become whole models, once they are told to: its entry gets
the layers that it lacks, and goes on alone; others become endpoints of their own after that.

What is missing is fetched with what others leave of the network, then copied to the device beside
the work that goes on there (modelled: no step takes longer for it). At the boundary of a step all
requests move to the entry, after a pause. Another worker is a stage until then, and starts empty.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from libs.common.bus.messages import ConsolidationObserved
from libs.common.states import ConsolidationPhase, FetchClass
from services.scheduler.policy.consolidation.decisions import BeginConsolidation
from services.scheduler.simulation.catalogue import CatalogueModel
from services.scheduler.simulation.cluster.compute import StageCompute
from services.scheduler.simulation.cluster.fetch import Fetch
from services.scheduler.simulation.cluster.host_cache import bits
from services.scheduler.simulation.cluster.modelled_endpoint import ModelledEndpoint
from services.scheduler.simulation.cluster.modelled_worker import ModelledWorker
from services.scheduler.simulation.event_queue import EventQueue


@dataclass(frozen=True, eq=False)
class Consolidator:
    """`stage_of_all`: the entry as the only stage."""

    events: EventQueue
    switch_pause_s: float
    stage_of_all: Callable[[ModelledEndpoint], StageCompute]

    def begin(
        self, endpoint: ModelledEndpoint, target: BeginConsolidation, known: CatalogueModel
    ) -> None:
        """Of a worker that is left of a pipeline too: the entry may have switched meanwhile."""
        worker = endpoint.worker(target.worker_id)
        if worker is None:
            return
        worker.target, worker.has_all_layers = target, False
        _say(endpoint, worker, ConsolidationPhase.LOADING)
        fetch = Fetch(
            target.fetch_id,
            worker.row.manifest_digest,
            bits([known.index_by_digest[digest] for digest in target.unit_digests]),
            known.unit_sizes,
            partial(self._fetched, endpoint, worker, target),
            FetchClass.BACKGROUND,
        )
        endpoint.node_of(worker).fetch(fetch)

    def end(self, endpoint: ModelledEndpoint, worker: ModelledWorker) -> None:
        """It has no target any more."""
        if self.forget(endpoint, worker):
            worker.consolidation = None
            endpoint.say(worker)

    def forget(self, endpoint: ModelledEndpoint, worker: ModelledWorker) -> bool:
        """Its target, with the fetch; whether there was one."""
        target, worker.target = worker.target, None
        if target is not None:
            endpoint.node_of(worker).forget(target.fetch_id)
        return target is not None

    def _fetched(
        self, endpoint: ModelledEndpoint, worker: ModelledWorker, target: BeginConsolidation
    ) -> None:
        endpoint.node_of(worker).say_fetch(target.fetch_id)
        load_s = target.load_bytes / worker.figures.load_bytes_per_s
        self.events.after(load_s, partial(self._loaded, endpoint, worker, target))

    def _loaded(
        self, endpoint: ModelledEndpoint, worker: ModelledWorker, target: BeginConsolidation
    ) -> None:
        if worker.target is not target:
            return
        if target.is_scale_up:
            worker.has_all_layers = True
            _perhaps_alone(endpoint, worker)
            return
        _say(endpoint, worker, ConsolidationPhase.COPYING)
        stage, switched = self.stage_of_all(endpoint), partial(self._switched, endpoint, target)
        endpoint.engine.replace_stages((stage,), self.switch_pause_s, switched)

    def _switched(self, endpoint: ModelledEndpoint, target: BeginConsolidation) -> None:
        """Whatever the scheduler wants by now: the entry has decided."""
        endpoint.become_one(target.generation)
        entry = endpoint.workers[0]
        if entry.target is target:
            _say(endpoint, entry, ConsolidationPhase.SWITCHED)
        else:
            endpoint.say(entry)
        for worker in endpoint.leaving:
            _perhaps_alone(endpoint, worker)


def _perhaps_alone(endpoint: ModelledEndpoint, worker: ModelledWorker) -> None:
    """Once it has all layers and its pipeline has ended, whichever comes last."""
    target = worker.target
    if target is not None and worker.has_all_layers and worker in endpoint.leaving:
        worker.generation = target.generation
        _say(endpoint, worker, ConsolidationPhase.SWITCHED)


def _say(endpoint: ModelledEndpoint, worker: ModelledWorker, phase: ConsolidationPhase) -> None:
    assert worker.target is not None, "it is on the way to it"
    told = ConsolidationObserved(generation=worker.target.generation, phase=phase)
    worker.consolidation = told
    endpoint.say(worker)
