"""Which models' weights may be prefetched, or are: as a sweep reads it from rows
(`prefetch_rows.py`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.scheduler.policy.prefetching.prefetch import MAX_EXPECTED
from services.scheduler.policy.prefetching.prefetch_effects import without_old_looks
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.simulation.catalogue import ModelCatalogue
from services.scheduler.simulation.leader.due_models import Due, DueModels


@dataclass(eq=False)
class ExpectedModels:
    catalogue: ModelCatalogue
    _due: DueModels = field(default_factory=DueModels)

    def write(self, activities: Mapping[str, ModelActivity]) -> None:
        """As a round has left them. A model with a fixed keep-alive is not expected."""
        for model_id, activity in activities.items():
            if self.catalogue.group_of(model_id).is_keep_alive_auto:
                self._due.write(model_id, activity.prefetch_at_s, activity.prefetch_until_s)

    def read(self, snapshot: Snapshot, now_s: float) -> Snapshot:
        expected = self._due.read(now_s, MAX_EXPECTED, _soonest_over)
        known = snapshot.prefetches.keys_of("model")
        return without_old_looks(snapshot).changed(prefetchable=frozenset(expected).union(known))


def _soonest_over(due: Due) -> tuple[float, str]:
    return (due.until_s, due.model_id)
