"""Prefetches on modelled nodes: background fetches whose units stay while they run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from libs.common.states import FetchClass
from services.scheduler.policy import decisions as d
from services.scheduler.policy.prefetching.prefetch import Prefetch
from services.scheduler.simulation.catalogue import ModelCatalogue
from services.scheduler.simulation.cluster.fetch import Fetch
from services.scheduler.simulation.cluster.host_cache import bits
from services.scheduler.simulation.cluster.modelled_node import ModelledNode


@dataclass(eq=False)
class Prefetcher:
    catalogue: ModelCatalogue
    nodes: Mapping[str, ModelledNode]
    _running: dict[str, Prefetch] = field(default_factory=dict)  # by id

    def start(self, prefetch: Prefetch) -> None:
        known, node = self.catalogue.model(prefetch.model_id), self.nodes[prefetch.node_id]
        units = bits([known.index_by_digest[digest] for digest in prefetch.unit_digests])
        self._running[prefetch.id] = prefetch
        node.fetcher.cache.pin(prefetch.manifest_digest)
        told = partial(node.say_fetch, prefetch.fetch_id)
        node.fetch(
            Fetch(
                *(prefetch.fetch_id, prefetch.manifest_digest, units, known.unit_sizes, told),
                FetchClass.BACKGROUND,
            )
        )

    def end(self, decision: d.EndPrefetch) -> None:
        """Its fetch, which a complete one has no more."""
        prefetch = self._running.pop(decision.prefetch_id, None)
        if prefetch is not None:
            node = self.nodes[prefetch.node_id]
            node.forget(prefetch.fetch_id)
            node.fetcher.cache.unpin(prefetch.manifest_digest)
