"""Which models' weights may be prefetched, or are: as a sweep reads it from rows
(`prefetch_rows.py`)."""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

from services.scheduler.policy.decide import Decided
from services.scheduler.policy.prefetching.prefetch import MAX_EXPECTED
from services.scheduler.policy.prefetching.prefetch_effects import without_old_looks
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.simulation.catalogue import ModelCatalogue


class _Row(NamedTuple):
    """In the order in which models are looked at."""

    prefetch_at_s: float
    model_id: str
    prefetch_until_s: float


@dataclass(eq=False)
class ExpectedModels:
    """It costs what is due and what decisions change, however many models there are."""

    catalogue: ModelCatalogue
    _known: dict[str, ModelActivity] = field(default_factory=dict)  # that the rows are of
    _rows: dict[str, _Row] = field(default_factory=dict)  # by model
    # These have also what is no row any more, until they come across it.
    _later: list[_Row] = field(default_factory=list)  # a heap
    _due: list[_Row] = field(default_factory=list)  # their time has come

    def write(self, decided: Decided) -> None:
        """As a round has left them. A model with a fixed keep-alive is not expected."""
        for model_id in {decision.model_id for decision in decided.decisions} - {""}:
            activity = decided.snapshot.activities.get(model_id)
            if activity is None or activity is self._known.get(model_id):
                continue
            if self.catalogue.group_of(model_id).is_keep_alive_auto:
                self._known[model_id] = activity
                self._write(model_id, activity)

    def _write(self, model_id: str, activity: ModelActivity) -> None:
        at_s, until_s = activity.prefetch_at_s, activity.prefetch_until_s
        if at_s is None or until_s is None:
            self._rows.pop(model_id, None)
            return
        row = self._rows[model_id] = _Row(at_s, model_id, until_s)
        heappush(self._later, row)

    def read(self, snapshot: Snapshot, now_s: float) -> Snapshot:
        while self._later and self._later[0].prefetch_at_s <= now_s:
            self._due.append(heappop(self._later))
        due = (row for row in self._due if self._holds(row, now_s))
        self._due = sorted(due, key=lambda row: (row.prefetch_until_s, row.model_id))
        expected = frozenset(row.model_id for row in self._due[:MAX_EXPECTED])
        known = frozenset(snapshot.prefetches.keys_of("model"))
        return without_old_looks(snapshot).changed(prefetchable=expected | known)

    def _holds(self, row: _Row, now_s: float) -> bool:
        return row.prefetch_until_s > now_s and self._rows.get(row.model_id) is row
