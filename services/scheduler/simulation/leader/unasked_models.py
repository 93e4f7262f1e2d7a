"""Which models may have an endpoint started that nobody waits for: as a sweep reads it from rows
(`activity_rows.py`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.unasked import MAX_AHEAD
from services.scheduler.simulation.catalogue import ModelCatalogue
from services.scheduler.simulation.leader.due_models import Due, DueModels


@dataclass(eq=False)
class UnaskedModels:
    catalogue: ModelCatalogue
    pinned: frozenset[str] = field(init=False)
    _due: DueModels = field(default_factory=DueModels)

    def __post_init__(self) -> None:
        self.pinned = self.catalogue.pinned_ids()

    def write(self, activities: Mapping[str, ModelActivity]) -> None:
        """As a round has left them. A model with a fixed keep-alive has no start ahead."""
        for model_id, activity in activities.items():
            if self.catalogue.group_of(model_id).is_keep_alive_auto:
                self._due.write(model_id, activity.ahead_at_s, activity.ahead_until_s)

    def read(self, now_s: float) -> frozenset[str]:
        """Those that are pinned, and of those that are expected soon as many as a sweep takes,
        whoever is expected first in front."""
        return self.pinned.union(self._due.read(now_s, MAX_AHEAD, _first_expected))


def _first_expected(due: Due) -> tuple[float, str]:
    return (due.from_s, due.model_id)
