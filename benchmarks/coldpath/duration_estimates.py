"""How long a measurement takes and will take: a guess at first, then as long as it took before."""

import time
from collections.abc import Callable, Sequence
from statistics import mean

from benchmarks.coldpath.variants import RANDOM_MODELS, VLLM, Variant

# Guesses for two cores.
_STACK_S, _START_S, _VLLM_S = 14.0, 5.0, 45.0
_DEMO_BYTES = 270_000_000


class DurationEstimates:
    """By turns: what is measured together, named as its samples are."""

    def __init__(self, known: Sequence[Variant], clock: Callable[[], float] = time.monotonic):
        self._known = {variant.name: variant for variant in known}
        self._clock = clock
        self._took_s: dict[tuple[str, ...], list[float]] = {}
        self._began_s = clock()

    def begin(self) -> None:
        self._began_s = self._clock()

    def end(self, turn: Sequence[str]) -> None:
        self._took_s.setdefault(tuple(turn), []).append(self._clock() - self._began_s)

    def expected_s(self, turn: Sequence[str]) -> float:
        if tuple(turn) in self._took_s:
            return mean(self._took_s[tuple(turn)])
        if VLLM in turn:
            return _VLLM_S
        return _STACK_S + sum(_starts_s(self._known[name]) for name in turn)


def _starts_s(variant: Variant) -> float:
    model = RANDOM_MODELS.get(variant.model)
    num_bytes = _DEMO_BYTES if model is None else model.num_bytes
    fetch_s = num_bytes / variant.num_stages / variant.nic_bytes_per_s
    return fetch_s + _START_S * len(variant.sample_names)
