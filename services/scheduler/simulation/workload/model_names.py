"""The models of a scenario by number, group and id."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from services.scheduler.simulation.scenario.models import ModelGroup


@dataclass(frozen=True, eq=False)
class ModelNames:
    """A group of one model gives it its name; of several each has a number, too."""

    groups: tuple[ModelGroup, ...]
    _bounds: Sequence[int] = field(init=False)
    _by_name: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        bounds = list(accumulate((group.count for group in self.groups), initial=0))
        object.__setattr__(self, "_bounds", bounds)
        names = {group.name: number for number, group in enumerate(self.groups)}
        object.__setattr__(self, "_by_name", names)

    def __len__(self) -> int:
        return self._bounds[-1]

    @property
    def words(self) -> str:
        return ", ".join(
            g.name if g.count == 1 else f"{g.name}-0 to {g.name}-{g.count - 1}" for g in self.groups
        )

    def ranges(self) -> Iterator[tuple[ModelGroup, int, int]]:
        """Each group with the numbers of its models: from the first to before the last."""
        for group, (first, last) in zip(self.groups, pairwise(self._bounds), strict=True):
            yield group, first, last

    def group_of(self, model: int) -> ModelGroup:
        return self.groups[bisect_right(self._bounds, model) - 1]

    def id_of(self, model: int) -> str:
        place = bisect_right(self._bounds, model) - 1
        group = self.groups[place]
        return group.name if group.count == 1 else f"{group.name}-{model - self._bounds[place]}"

    def place_of(self, model_id: str) -> int | None:
        """The number of the model; None if there is none."""
        place = self._by_name.get(model_id)
        if place is not None:
            return self._bounds[place] if self.groups[place].count == 1 else None
        name, _, number = model_id.rpartition("-")
        place = self._by_name.get(name)
        is_number = number.isascii() and number.isdigit()
        if place is None or not is_number or int(number) >= self.groups[place].count:
            return None
        return self._bounds[place] + int(number)
