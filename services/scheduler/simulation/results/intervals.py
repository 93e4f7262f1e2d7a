"""Means over seeds with their 95 % intervals. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

# Student's t for 95 %, by one less than the number of seeds; with more it is nearly normal.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
_NORMAL = 1.96
_DIGITS = 9


@dataclass(frozen=True)
class Interval:
    """`half` is the half width; None of a single value: nothing is known of how it varies."""

    mean: float
    half: float | None

    def as_json(self) -> dict[str, float | None]:
        if self.half is None:
            return {"mean": round(self.mean, _DIGITS), "low": None, "high": None}
        low, high = self.mean - self.half, self.mean + self.half
        return {
            "mean": round(self.mean, _DIGITS),
            "low": round(low, _DIGITS),
            "high": round(high, _DIGITS),
        }


def interval(values: Sequence[float]) -> Interval:
    """One value of each seed."""
    mean, count = float(np.mean(values)), len(values)
    if count == 1:
        return Interval(mean, None)
    t = _T[count - 2] if count - 2 < len(_T) else _NORMAL
    return Interval(mean, t * float(np.std(values, ddof=1)) / sqrt(count))
