"""How nodes make one worker of a pipeline that serves, once they are told to: its entry gets the
layers that it lacks, and goes on alone.

What is missing is fetched with what others leave of the network, then copied to the device beside
the work that goes on there (modelled: no step takes longer for it). At the boundary of a step all
requests move to the entry, after a pause.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from libs.common.bus.messages import ConsolidationObserved
from libs.common.states import ConsolidationPhase, FetchClass
from services.scheduler.policy.consolidation.decisions import BeginConsolidation
from services.scheduler.simulation.catalogue import CatalogueModel
from services.scheduler.simulation.cluster.compute import StageCompute
from services.scheduler.simulation.cluster.fetch import Fetch
from services.scheduler.simulation.cluster.host_cache import bits
from services.scheduler.simulation.cluster.modelled_endpoint import ModelledEndpoint
from services.scheduler.simulation.event_queue import EventQueue


@dataclass(eq=False)
class Consolidator:
    """`stage_of_all`: the entry as the only stage."""

    events: EventQueue
    switch_pause_s: float
    stage_of_all: Callable[[ModelledEndpoint], StageCompute]
    _targets: dict[str, BeginConsolidation] = field(default_factory=dict)  # by endpoint

    def begin(
        self, endpoint: ModelledEndpoint, target: BeginConsolidation, known: CatalogueModel
    ) -> None:
        self._targets[endpoint.id] = target
        self._say(endpoint, ConsolidationPhase.LOADING)
        fetch = Fetch(
            target.fetch_id,
            endpoint.workers[0].row.manifest_digest,
            bits([known.index_by_digest[digest] for digest in target.unit_digests]),
            known.unit_sizes,
            partial(self._fetched, endpoint, target),
            FetchClass.BACKGROUND,
        )
        endpoint.nodes[0].fetch(fetch)

    def end(self, endpoint: ModelledEndpoint) -> None:
        """Its entry has no target any more."""
        if self.forget(endpoint):
            endpoint.workers[0].consolidation = None
            endpoint.say(endpoint.workers[0])

    def forget(self, endpoint: ModelledEndpoint) -> bool:
        """The target and its fetch; whether there was one."""
        target = self._targets.pop(endpoint.id, None)
        if target is not None:
            endpoint.nodes[0].forget(target.fetch_id)
        return target is not None

    def _fetched(self, endpoint: ModelledEndpoint, target: BeginConsolidation) -> None:
        endpoint.nodes[0].say_fetch(target.fetch_id)
        load_s = target.load_bytes / endpoint.workers[0].figures.load_bytes_per_s
        self.events.after(load_s, partial(self._loaded, endpoint, target))

    def _loaded(self, endpoint: ModelledEndpoint, target: BeginConsolidation) -> None:
        if self._targets.get(endpoint.id) is target:
            self._say(endpoint, ConsolidationPhase.COPYING)
            stage, switched = self.stage_of_all(endpoint), partial(self._switched, endpoint)
            endpoint.engine.replace_stages((stage,), self.switch_pause_s, partial(switched, target))

    def _switched(self, endpoint: ModelledEndpoint, target: BeginConsolidation) -> None:
        """Whatever the scheduler wants by now: the entry has decided."""
        endpoint.become_one(target.generation)
        if self._targets.get(endpoint.id) is target:
            self._say(endpoint, ConsolidationPhase.SWITCHED)
        else:
            endpoint.say(endpoint.workers[0])

    def _say(self, endpoint: ModelledEndpoint, phase: ConsolidationPhase) -> None:
        generation = self._targets[endpoint.id].generation
        told = ConsolidationObserved(generation=generation, phase=phase)
        endpoint.workers[0].consolidation = told
        endpoint.say(endpoint.workers[0])
