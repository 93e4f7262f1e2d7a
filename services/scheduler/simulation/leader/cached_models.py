"""Which nodes hold units of the models that wait: as `waiting_units.py` reads it from rows."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from services.scheduler.policy.cluster import OpenRequest
from services.scheduler.policy.nodes.cached_units import CachedUnits, UnitHolders, UnitsChanged
from services.scheduler.policy.tables.table import Table
from services.scheduler.simulation.catalogue import ModelCatalogue


@dataclass(eq=False)
class CachedModels:
    """A model's manifest has the model's id."""

    catalogue: ModelCatalogue
    known: CachedUnits = field(default_factory=CachedUnits)
    _holders: defaultdict[str, dict[str, int]] = field(  # bits by model and node
        default_factory=lambda: defaultdict(dict)
    )

    def added(self, node_id: str, model_id: str, units: int) -> None:
        held = self._holders[model_id]
        held[node_id] = held.get(node_id, 0) | units
        if self.known.of(model_id) is not None:
            new = self.catalogue.model(model_id).digests(units)
            self.known = self.known.changed({node_id: UnitsChanged(added=new)})

    def removed(self, node_id: str, model_id: str) -> None:
        """Nothing of it is left there."""
        held = self._holders[model_id]
        units = held.pop(node_id, 0)
        if not held:
            del self._holders[model_id]
        if self.known.of(model_id) is not None:
            old = self.catalogue.model(model_id).digests(units)
            self.known = self.known.changed({node_id: UnitsChanged(removed=old)})

    def of_waiting(
        self, requests: Table[OpenRequest], order: Collection[str], *, is_sweep: bool
    ) -> CachedUnits:
        """With whoever has begun to wait; a sweep drops who waits no longer."""
        waiting = {*requests.keys_of("queue"), *order}
        if is_sweep:
            self.known = self.known.keep_only(waiting)
        new = {id_: self._read(id_) for id_ in sorted(waiting) if self.known.of(id_) is None}
        self.known = self.known.including(new)
        return self.known

    def _read(self, model_id: str) -> UnitHolders:
        model = self.catalogue.model(model_id)
        held = self._holders.get(model_id, {})
        by_node = {node_id: model.digests(units) for node_id, units in held.items()}
        return UnitHolders(frozenset(model.index_by_digest), by_node)
