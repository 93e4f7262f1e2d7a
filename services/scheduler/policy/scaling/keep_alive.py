"""How long an endpoint is kept when nobody asks for it, and when one is started ahead. Pure.

A gap between two requests costs

    held x 1 + cold x price

where `held` are the seconds in which an endpoint holds its memory for nothing, `cold` is 1 if it
is gone when the next request comes, and `price` is what a cold start is worth in the same unit:
seconds of an idle endpoint. Waiting costs nothing as long as the first token is there by the
model's target: whoever starts in time may be gone soon. The schedule is the one with the least
expected cost, of all that may change at the edges of the history's bins. Backwards over the bins,
with `q` the share of the gaps that end in a bin which they have reached and `w` its width:

    keep(b)  = w (1 - q/2) + (1 - q) min(keep(b+1), gone(b+1))
    leave(b) = q price + (1 - q) gone(b+1)
    gone(b)  = min(leave(b), restart + keep(b))

With nothing but the prior of `gap_history.py`, whose hazard at age t is 1/t, an endpoint stays for
about `price` seconds: the break-even rule of ski rental, which never costs more than twice the
optimum (Karlin et al., Competitive Snoopy Caching, 1988). The "hybrid histogram" policy of Azure
Functions (Shahrad et al., Serverless in the Wild, USENIX ATC 2020) cuts a histogram of idle times
at its 5th and 99th percentile: it is released at once, loaded before the first and kept until the
second. The cuts weigh no cost; where a histogram says little it falls back to a fixed time. Here
the same two moments follow from what memory and a cold start cost, also for gaps of two kinds
(bursts and pauses), and a prior takes the place of the fallback.
"""

from dataclasses import dataclass

from services.scheduler.policy.scaling.gap_history import EDGES_S, NUM_BINS, GapHistory

# A second by which the first token is late is worth a minute of an idle endpoint's memory. So a
# model that is 5 s late after a start stays for 5 min as long as nothing else is known of it.
IDLE_S_PER_LATE_S = 60.0


@dataclass(frozen=True)
class KeepAlivePlan:
    """Seconds since the last request ended. It is kept until `keep_s`; where another request is
    expected later, an endpoint is to be ready from `ahead_from_s` until `ahead_until_s`."""

    keep_s: float
    ahead_from_s: float | None = None
    ahead_until_s: float | None = None

    def holds(self, gap_s: float) -> bool:
        """Whether an endpoint is worth its memory at that age of the gap."""
        if gap_s < self.keep_s:
            return True
        if self.ahead_from_s is None or self.ahead_until_s is None:
            return False
        return self.ahead_from_s <= gap_s < self.ahead_until_s

    def starts_ahead(self, gap_s: float, restart_s: float) -> bool:
        """Whether one is to be started that nobody has asked for, so that it is ready in time."""
        if self.ahead_from_s is None or self.ahead_until_s is None:
            return False
        return self.ahead_from_s - restart_s <= gap_s < self.ahead_until_s


def price_s(restart_s: float, late_s: float) -> float:
    """What a cold start of that length is worth, in seconds of an idle endpoint: what its first
    token is late by, but never less than the memory that it holds until it serves."""
    return max(restart_s, IDLE_S_PER_LATE_S * late_s)


def plan_keep_alive(history: GapHistory, restart_s: float, late_s: float) -> KeepAlivePlan:
    """Predicted: `restart_s` until an endpoint is back, whose first token is `late_s` after the
    target of its model (0: in time)."""
    is_kept, is_started = _choices(history.end_shares, price_s(restart_s, late_s), restart_s)
    first = is_kept.index(False) if False in is_kept else NUM_BINS
    ahead = next((b for b in range(first, NUM_BINS) if is_started[b]), None)
    if ahead is None:
        return KeepAlivePlan(EDGES_S[first])
    end = next((b for b in range(ahead + 1, NUM_BINS) if not is_kept[b]), NUM_BINS)
    return KeepAlivePlan(EDGES_S[first], EDGES_S[ahead], EDGES_S[end])


def _choices(
    end_shares: tuple[float, ...], price: float, restart_s: float
) -> tuple[list[bool], list[bool]]:
    """By bin: whether an endpoint that is there stays, and whether one that is not is started."""
    is_kept, is_started = [False] * NUM_BINS, [False] * NUM_BINS
    there = gone = price  # past the last bin a request finds none
    for place in reversed(range(NUM_BINS)):
        share, width_s = end_shares[place], EDGES_S[place + 1] - EDGES_S[place]
        keep = width_s * (1.0 - share / 2) + (1.0 - share) * there
        leave = share * price + (1.0 - share) * gone
        is_started[place] = restart_s + keep < leave
        gone = min(leave, restart_s + keep)
        is_kept[place] = keep < gone
        there = min(keep, gone)
    return is_kept, is_started
