"""Models whose time has come, and is not over. It costs what is due and what changes, however many
models there are."""

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, NamedTuple


class Due(NamedTuple):
    """From when on a model is due, and until when."""

    from_s: float
    model_id: str
    until_s: float


@dataclass(eq=False)
class DueModels:
    _rows: dict[str, Due] = field(default_factory=dict)  # by model
    # These have also what is no row any more, until they come across it.
    _later: list[Due] = field(default_factory=list)  # a heap
    _now: list[Due] = field(default_factory=list)  # their time has come

    def write(self, model_id: str, from_s: float | None, until_s: float | None) -> None:
        """Instead of what was known of the model; None: it is not due at any time."""
        if from_s is None or until_s is None:
            self._rows.pop(model_id, None)
            return
        row = self._rows[model_id] = Due(from_s, model_id, until_s)
        heappush(self._later, row)

    def read(self, now_s: float, limit: int, order: Callable[[Due], Any]) -> list[str]:
        """So many at most, the first of that order."""
        while self._later and self._later[0].from_s <= now_s:
            self._now.append(heappop(self._later))
        self._now = sorted((row for row in self._now if self._holds(row, now_s)), key=order)
        return [row.model_id for row in self._now[:limit]]

    def _holds(self, row: Due, now_s: float) -> bool:
        return row.until_s > now_s and self._rows.get(row.model_id) is row
