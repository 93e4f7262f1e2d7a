"""Where a benchmark's own time goes: what is measured, and what has to be there for it."""

import time


class Stopwatch:
    """Adds up the wall time between laps, by what it was spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lap_began_s = time.monotonic()

    def begin(self) -> None:
        """What was done since the last lap counts for nothing."""
        self._lap_began_s = time.monotonic()

    def lap(self, name: str) -> None:
        now_s = time.monotonic()
        self.seconds[name] = self.seconds.get(name, 0.0) + now_s - self._lap_began_s
        self._lap_began_s = now_s

    def __str__(self) -> str:
        """`starts 30 s, stack 12 s`, the longest first."""
        parts = sorted(self.seconds.items(), key=lambda part: -part[1])
        return ", ".join(f"{name} {took_s:.0f} s" for name, took_s in parts)
