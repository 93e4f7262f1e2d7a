"""How many threads an engine computes with: all cores while nobody else wants them. Pure.

Threads of several workers on the same cores wait for each other at the end of every matrix. On two
cores, four workers with two threads each got two thirds of the steps done that four with one thread
did; but a lone worker was 1.6 times as fast with two as with one. So the number follows what
is measured.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

CONTENDED: Final = 0.85  # who gets less of what it wants shares its cores with others
HOLD_S: Final = 5.0  # after that no thread is added for so long
ALMOST: Final = 0.25  # of a core: one that is idle for the rest counts as idle


@dataclass(frozen=True)
class ThreadLimits:
    least: int  # its own share of the device's cores
    most: int  # all of the device's cores


@dataclass(frozen=True)
class ThreadCount:
    value: int
    held_until_s: float = -math.inf  # monotonic


def next_count(
    count: ThreadCount,
    limits: ThreadLimits,
    share: float | None,
    idle_cores: float | None,
    now_s: float,
) -> ThreadCount:
    """From what the worker got, and what was idle, since the last time; None: not known."""
    if share is not None and share < CONTENDED:
        return ThreadCount(limits.least, now_s + HOLD_S)
    if idle_cores is None or now_s < count.held_until_s:
        return count
    wanted = count.value + math.floor(idle_cores + ALMOST)
    return replace(count, value=min(limits.most, wanted))
