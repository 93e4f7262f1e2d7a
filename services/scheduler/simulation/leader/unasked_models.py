"""Which models may have an endpoint started that nobody waits for: as a sweep reads it from rows
(`activity_rows.py`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.unasked import MAX_AHEAD
from services.scheduler.simulation.catalogue import ModelCatalogue


class _Row(NamedTuple):
    """In the order in which models are expected."""

    ahead_at_s: float
    model_id: str
    ahead_until_s: float


@dataclass(eq=False)
class UnaskedModels:
    """It costs what is due and what decisions change, however many models there are."""

    catalogue: ModelCatalogue
    pinned: frozenset[str] = field(init=False)
    _rows: dict[str, _Row] = field(default_factory=dict)  # by model
    # These have also what is no row any more, until they come across it.
    _later: list[_Row] = field(default_factory=list)  # a heap
    _due: list[_Row] = field(default_factory=list)  # their time has come

    def __post_init__(self) -> None:
        self.pinned = self.catalogue.pinned_ids()

    def write(self, activities: Mapping[str, ModelActivity]) -> None:
        """As a round has left them. A model with a fixed keep-alive has no start ahead."""
        for model_id, activity in activities.items():
            if not self.catalogue.group_of(model_id).is_keep_alive_auto:
                continue
            at_s, until_s = activity.ahead_at_s, activity.ahead_until_s
            if at_s is None or until_s is None:
                self._rows.pop(model_id, None)
                continue
            row = _Row(at_s, model_id, until_s)
            self._rows[model_id] = row
            heappush(self._later, row)

    def read(self, now_s: float) -> frozenset[str]:
        """Those that are pinned, and of those that are expected soon as many as a sweep takes,
        whoever is expected first in front."""
        while self._later and self._later[0].ahead_at_s <= now_s:
            self._due.append(heappop(self._later))
        self._due = sorted(row for row in self._due if self._holds(row, now_s))
        return self.pinned.union(row.model_id for row in self._due[:MAX_AHEAD])

    def _holds(self, row: _Row, now_s: float) -> bool:
        return row.ahead_until_s > now_s and self._rows.get(row.model_id) is row
