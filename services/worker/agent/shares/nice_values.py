"""Nice values that stand for weights. Pure."""

import math
from collections.abc import Mapping

STEP = 1.25  # the kernel's scheduler weighs a thread by 1024 / 1.25^nice
MAX_NICE = 19


def relative_nice(weights: Mapping[str, float]) -> dict[str, int]:
    """By worker: nice = round(log(largest weight / weight) / log 1.25), at most 19.

    The largest has 0, so that a worker alone, or among its like, is as any other process. Half of
    the largest has 3 (a factor of 1.95), a quarter 6 (3.8), a tenth 10 (9.3); from a 69th on all
    have 19.
    """
    largest = max(weights.values(), default=1.0)
    return {
        worker_id: min(MAX_NICE, round(math.log(largest / weight, STEP)))
        for worker_id, weight in weights.items()
    }


def process_nice(
    relative: Mapping[str, int], current: Mapping[str, int], own_nice: int, *, can_lower: bool
) -> dict[str, int]:
    """The nice values to set, of workers that run at `current` now; others run at `own_nice`, as
    the agent does.

    Anybody may raise them, and only who has the privilege may lower them again. Without it all are
    raised until nobody's need be lowered: the ratios hold, as far as 19 allows.
    """
    base = own_nice
    if not can_lower:
        base = max([base, *(current.get(i, own_nice) - nice for i, nice in relative.items())])
    return {worker_id: min(MAX_NICE, base + nice) for worker_id, nice in relative.items()}
