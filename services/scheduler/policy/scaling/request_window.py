"""When a model that has no endpoint is likely to be asked next, learnt from its own gaps. Pure.

Half an octave, which is two bins of the histogram, such as from 512 s to 724 s after the last
request. Of all that lie behind the end of its endpoint's keep-alive it is the one in which most of
the gaps end that last until there:

    share = (S(from) - S(until)) / S(keep)

with `S` the share of gaps that last longer. It is a window only if at least half of them end in it.
Of a model that is asked at random less do, whatever its mean gap is: of exponential gaps with the
mean `m`, and an endpoint that stays for `m`, at most a third (`1 - exp(1 - sqrt(2))`). Nor does the
prior of `gap_history.py` make one, by which 29 % of what reaches a half octave ends in it.
"""

from dataclasses import dataclass

from services.scheduler.policy.scaling.gap_history import EDGES_S, NUM_BINS, GapHistory, bin_of

WINDOW_BINS = 2
MIN_SHARE = 0.5
MIN_REACHED = 2.5  # three gaps, of which the oldest weighs less: two may agree by chance


@dataclass(frozen=True)
class RequestWindow:
    """Seconds since the last request ended."""

    from_s: float
    until_s: float
    share: float  # of the gaps that last longer than an endpoint stays


def likely_window(history: GapHistory, keep_s: float) -> RequestWindow | None:
    """`keep_s`: how long an endpoint stays. None: nobody can say when it is asked."""
    lasting = history.survival(keep_s)
    best = max(
        (_window(history, place, lasting) for place in _places(history, keep_s)),
        key=lambda window: window.share,
        default=None,
    )
    return best if best is not None and best.share >= MIN_SHARE else None


def _places(history: GapHistory, keep_s: float) -> range:
    """Bins with which a window may begin: those that enough gaps have reached."""
    first = bin_of(keep_s)
    if keep_s > EDGES_S[min(first, NUM_BINS)]:
        first += 1  # the bin has begun while the endpoint was there
    reached = [i for i in range(NUM_BINS) if history.reached[i] >= MIN_REACHED]
    last = max(reached, default=-1)
    return range(max(1, first), min(last, NUM_BINS - WINDOW_BINS) + 1)


def _window(history: GapHistory, place: int, lasting: float) -> RequestWindow:
    from_s, until_s = EDGES_S[place], EDGES_S[place + WINDOW_BINS]
    ending = history.survival(from_s) - history.survival(until_s)
    return RequestWindow(from_s, until_s, ending / lasting)
