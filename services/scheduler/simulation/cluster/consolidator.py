"""Makes one worker of a pipeline that serves: its entry gets the layers that it lacks, and goes on
alone. Modelled: the scheduler's decisions and the nodes' part of it are yet to come.

What is missing is fetched with what others leave of the network, then copied to the device beside
the work that goes on there (measured: no step takes longer for it). At the boundary of a step all
requests move to the entry, after a pause.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from libs.common.states import FetchClass
from services.scheduler.simulation.catalogue import CatalogueModel
from services.scheduler.simulation.cluster.compute import StageCompute
from services.scheduler.simulation.cluster.fetch import Fetch
from services.scheduler.simulation.cluster.host_cache import bits
from services.scheduler.simulation.cluster.modelled_endpoint import ModelledEndpoint
from services.scheduler.simulation.event_queue import EventQueue


@dataclass(eq=False)
class Consolidator:
    """`stage_of_all`: the entry as the only stage. `on_switched`: the other workers are needed no
    more."""

    events: EventQueue
    switch_pause_s: float
    stage_of_all: Callable[[ModelledEndpoint, CatalogueModel], StageCompute]
    on_switched: Callable[[ModelledEndpoint], None]
    _fetch_ids: dict[str, str] = field(default_factory=dict)  # by endpoint, until it is one worker

    def begin(self, endpoint: ModelledEndpoint, known: CatalogueModel) -> None:
        entry, node = endpoint.workers[0], endpoint.nodes[0]
        own = bits([known.index_by_digest[digest] for digest in entry.row.unit_digests])
        fetch = Fetch(
            f"{endpoint.id}/rest",
            entry.row.manifest_digest,
            known.all_units & ~own,
            known.unit_sizes,
            partial(self._fetched, endpoint, known),
            FetchClass.BACKGROUND,
        )
        self._fetch_ids[endpoint.id] = fetch.id
        node.fetch(fetch)

    def cancel(self, endpoint: ModelledEndpoint) -> None:
        """It is to go, or is gone."""
        fetch_id = self._fetch_ids.pop(endpoint.id, None)
        if fetch_id is not None:
            endpoint.nodes[0].forget(fetch_id)

    def _fetched(self, endpoint: ModelledEndpoint, known: CatalogueModel) -> None:
        entry = endpoint.workers[0]
        missing_bytes = known.group.weight_bytes - entry.weight_bytes
        load_s = missing_bytes / entry.figures.load_bytes_per_s
        self.events.after(load_s, partial(self._loaded, endpoint, known))

    def _loaded(self, endpoint: ModelledEndpoint, known: CatalogueModel) -> None:
        if endpoint.id in self._fetch_ids:
            stage = self.stage_of_all(endpoint, known)
            switched = partial(self._switched, endpoint)
            endpoint.engine.replace_stages((stage,), self.switch_pause_s, switched)

    def _switched(self, endpoint: ModelledEndpoint) -> None:
        if endpoint.id in self._fetch_ids:
            self.cancel(endpoint)
            self.on_switched(endpoint)
