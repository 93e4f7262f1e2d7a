"""When a model that has no endpoint is likely to be asked next, learnt from its own gaps. Pure.

Half an octave, which is two bins of the histogram, such as from 431 s to 609 s after the last
request. Of all that lie behind the end of its endpoint's keep-alive it is the one in which most of
the gaps end that last until there:

    share = (K(from) - K(until)) x W / (W + 1)

with `K` the Kaplan-Meier estimate of the share that lasts longer, `W` the weight of the gaps that
it is made of, and one more gap that ends elsewhere: what is known of few counts less. It is a
window only if at least half of them end in it. Of a model that is asked at random less do, whatever
its mean gap is: of exponential gaps with the mean `m`, and an endpoint that stays for `m`, at most
a third (`1 - exp(1 - sqrt(2))`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from services.scheduler.policy.scaling.gap_history import EDGES_S, NUM_BINS, GapHistory, bin_of

WINDOW_BINS = 2
MIN_SHARE = 0.5
MIN_REACHED = 2.5  # three gaps, of which older ones weigh less: two may agree by chance


@dataclass(frozen=True)
class RequestWindow:
    """Seconds since the last request ended."""

    from_s: float
    until_s: float
    share: float  # of the gaps that last longer than an endpoint stays


def likely_window(history: GapHistory, keep_s: float) -> RequestWindow | None:
    """`keep_s`: how long an endpoint stays. None: nobody can say when it is asked."""
    first = _first_bin(keep_s)
    if first > NUM_BINS - WINDOW_BINS or history.reached[first] < MIN_REACHED:
        return None
    lasting = _lasting(history, first)
    ending = [now - then for now, then in zip(lasting, lasting[WINDOW_BINS:], strict=False)]
    best = max(range(len(ending)), key=ending.__getitem__)
    weight = history.reached[first]
    share = ending[best] * weight / (weight + 1.0)
    from_s, until_s = EDGES_S[first + best], EDGES_S[first + best + WINDOW_BINS]
    return RequestWindow(from_s, until_s, share) if share >= MIN_SHARE else None


def _first_bin(keep_s: float) -> int:
    """Which begins when the endpoint has gone; what is shorter than a second is no window."""
    place = bin_of(keep_s)
    has_begun = place < NUM_BINS and EDGES_S[place] < keep_s
    return max(1, place + 1 if has_begun else place)


def _lasting(history: GapHistory, first: int) -> Sequence[float]:
    """At each edge from that bin's beginning on: the share of the gaps that last longer."""
    reached, ended = history.reached[first:], history.ended[first:]
    shares = (1.0 - e / r if r else 1.0 for e, r in zip(ended, reached, strict=True))
    return (1.0, *accumulate(shares, lambda share, more: share * more))
