"""What was measured of one quantity: exponentially weighted quantiles over a prior. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

MAX_VALUES = 24  # a 25th would weigh 2 % of the newest
DECAY = 0.85  # of a measurement's weight with each newer one: the last four are half of all


@dataclass(frozen=True)
class Measurements:
    """The newest values, oldest first, in any unit.

    The newest weighs 1, each before it `DECAY` times the next one; the prior, which a question
    names, counts as the value before all of them, and so fades away.
    """

    values: tuple[float, ...] = ()

    def add(self, value: float) -> "Measurements":
        return self.extend((value,))

    def extend(self, values: Iterable[float]) -> "Measurements":
        """The last of them is the newest."""
        return Measurements((*self.values, *values)[-MAX_VALUES:])

    def quantile(self, fraction: float, prior: float) -> float:
        """The least value below or at which lie `fraction` of all weights."""
        assert 0 < fraction <= 1, fraction
        return _quantile(self.values, fraction, prior)

    def median(self, prior: float) -> float:
        return self.quantile(0.5, prior)


@lru_cache(maxsize=8_192)  # the same is asked for each plan until something is measured again
def _quantile(values: tuple[float, ...], fraction: float, prior: float) -> float:
    newest_first = (*reversed(values), prior)
    weighted = sorted((value, DECAY**age) for age, value in enumerate(newest_first))
    sums = list(accumulate(weight for _, weight in weighted))
    wanted = fraction * sums[-1] * (1 - 1e-12)  # what rounding takes must not skip a value
    return next(v for (v, _), sum_ in zip(weighted, sums, strict=True) if sum_ >= wanted)
