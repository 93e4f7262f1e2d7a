"""Estimates what each engine takes of this node, from the workers that ran here. Pure.

What an agent's boot has measured is told with its heartbeats; the scheduler keeps it, so a new boot
begins with nothing and its first measurement replaces what was known.
"""

from libs.common.bus.messages import EngineObserved
from libs.common.engines import CONTEXT_BYTES, PRIORS
from libs.common.states import EngineKind

WEIGHT = 0.25  # of the latest measurement in an estimate
# Plans compare nodes by these figures, so that noise must not tell equal nodes apart.
LAUNCH_STEP_MS = 250
BYTES_STEP = 64 * 2**20


class EngineMeter:
    def __init__(self) -> None:
        self._launch_s: dict[EngineKind, float] = {}
        self._worker_bytes: dict[EngineKind, float] = {}

    def note_launch(self, engine: EngineKind, launch_s: float) -> None:
        """How long a process took from its launch until it had imported the engine."""
        if launch_s > 0:  # the two ends were told by two processes
            known_s = self._launch_s.get(engine, launch_s)
            self._launch_s[engine] = known_s + WEIGHT * (launch_s - known_s)

    def note_worker_bytes(self, engine: EngineKind, peak_bytes: int, *, has_ended: bool) -> None:
        """What a worker took of its GPU beside weights and KV cache.

        A higher peak counts at once, a lower one by its weight and when the worker has ended: until
        then it may still grow, and one that had little to do says little. So the prior counts as
        measured once.
        """
        prior_bytes = PRIORS[engine].worker_bytes - CONTEXT_BYTES
        known = self._worker_bytes.get(engine, prior_bytes)
        if peak_bytes >= known:
            self._worker_bytes[engine] = peak_bytes
        elif has_ended:
            self._worker_bytes[engine] = known + WEIGHT * (peak_bytes - known)

    def observed(self) -> tuple[EngineObserved, ...]:
        engines = self._launch_s.keys() | self._worker_bytes.keys()
        return tuple(
            EngineObserved(
                engine=engine,
                launch_ms=self._launch_ms(engine),
                worker_bytes=self._told_bytes(engine),
            )
            for engine in sorted(engines)
        )

    def _launch_ms(self, engine: EngineKind) -> int | None:
        launch_s = self._launch_s.get(engine)
        if launch_s is None:
            return None
        return LAUNCH_STEP_MS * max(1, round(1000 * launch_s / LAUNCH_STEP_MS))

    def _told_bytes(self, engine: EngineKind) -> int | None:
        """With room for a context once more: a worker keeps as much from its allocator, whatever
        the context really takes."""
        peak_bytes = self._worker_bytes.get(engine)
        if peak_bytes is None:
            return None
        return BYTES_STEP * -(-int(peak_bytes + CONTEXT_BYTES) // BYTES_STEP)
