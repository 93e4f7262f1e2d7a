"""How busy this machine is now: bounds on real time are stated as multiples of it.

A promise of two seconds is one of a machine that has the time. Where tests and others share the
cores, what is promised may be late by so many times a piece of work that is always the same: the
start and end of a Python process, measured before and after.
"""

import subprocess
import sys
import time
from dataclasses import dataclass, field

_WORK = (sys.executable, "-c", "import asyncio")
_TIMEOUT_S = 60.0


def measure_s() -> float:
    """The reference, once: about 0.1 s on a quiet machine."""
    began_s = time.monotonic()
    subprocess.run(_WORK, check=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL)
    return time.monotonic() - began_s


@dataclass
class Bound:
    """What something may take: a promise, and `multiple` references on top of it.

    Make it before that happens; `check` after it. A multiple of 0 is the bare promise.
    """

    promise_s: float
    multiple: float
    _before_s: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        if self.multiple:
            self._before_s = measure_s()

    def check(self, took_s: float, what: str) -> None:
        """Raises AssertionError."""
        if took_s < self.promise_s:
            return
        assert self.multiple, f"{what} took {took_s:.2f} s, {self.promise_s:g} s are promised"
        reference_s = max(self._before_s, measure_s())
        allowed_s = self.promise_s + self.multiple * reference_s
        assert took_s < allowed_s, (
            f"{what} took {took_s:.2f} s; {allowed_s:.2f} s are allowed: {self.promise_s:g} s and "
            f"{self.multiple:g} times {reference_s:.2f} s, which a process takes now"
        )
