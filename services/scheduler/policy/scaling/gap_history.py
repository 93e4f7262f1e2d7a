"""How long a model is left alone between two requests, learnt from its own gaps. Pure.

A histogram over bins that grow by a quarter of an octave, kept as a life table: of the gaps that
lasted until a bin began, how many ended in it. That is what keep-alive and reclaim ask: it was
idle for so long, will it be asked soon? Each bin forgets with the gaps that reach it, so a burst of
a thousand short gaps does not wipe out what is known of the pauses between bursts. A gap costs as
many steps as there are bins.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from services.scheduler.policy.nodes.lazy import cached_property

BINS_PER_OCTAVE = 4
NUM_OCTAVES = 18  # the last bin ends at 2**18 s, three days
# Seconds. Bin i is [EDGES_S[i], EDGES_S[i + 1]); what is shorter than a second is one bin.
EDGES_S = (0.0, *(2 ** (i / BINS_PER_OCTAVE) for i in range(BINS_PER_OCTAVE * NUM_OCTAVES + 1)))
NUM_BINS = len(EDGES_S) - 1
DECAY = 0.95  # of what a bin knows, with each gap that reaches it: twenty gaps are remembered
# Before anything is known: half of all gaps are shorter than a second, and of those that lasted for
# t seconds half end before 2t (hazard 1/t). It counts as one gap in each bin.
PRIOR_GAPS = 1.0
_PRIOR_ENDS = (
    0.5,
    *(1 - low / high for low, high in pairwise(EDGES_S[1:])),
)
_NOTHING = (0.0,) * NUM_BINS


def bin_of(gap_s: float) -> int:
    """NUM_BINS for what is longer than all bins."""
    return bisect_right(EDGES_S, max(0.0, gap_s)) - 1


@dataclass(frozen=True)
class GapHistory:
    """By bin, the newest gap weighs 1: gaps that lasted until it began, and of them those that
    ended in it."""

    reached: tuple[float, ...] = _NOTHING
    ended: tuple[float, ...] = _NOTHING

    def add(self, gap_s: float) -> "GapHistory":
        """With a gap that has just ended."""
        last = bin_of(gap_s)
        seen = min(last + 1, NUM_BINS)
        reached = [DECAY * weight + 1.0 for weight in self.reached[:seen]]
        ended = [DECAY * weight for weight in self.ended[:seen]]
        if last < NUM_BINS:
            ended[last] += 1.0
        return GapHistory((*reached, *self.reached[seen:]), (*ended, *self.ended[seen:]))

    @cached_property
    def end_shares(self) -> tuple[float, ...]:
        """By bin: of the gaps that last until it begins, the share that ends in it."""
        return tuple(
            (ended + PRIOR_GAPS * prior) / (reached + PRIOR_GAPS)
            for ended, reached, prior in zip(self.ended, self.reached, _PRIOR_ENDS, strict=True)
        )

    @cached_property
    def _survivals(self) -> tuple[float, ...]:
        """At each edge: the share of gaps that last longer."""
        lasting = (1.0 - share for share in self.end_shares)
        return (1.0, *accumulate(lasting, lambda share, more: share * more))

    def survival(self, gap_s: float) -> float:
        """The share of gaps that last longer; within a bin ends are spread evenly."""
        place = bin_of(gap_s)
        if place >= NUM_BINS:
            return self._survivals[-1] * EDGES_S[-1] / gap_s
        low, high = EDGES_S[place], EDGES_S[place + 1]
        share = self.end_shares[place] * max(0.0, gap_s - low) / (high - low)
        return self._survivals[place] * (1.0 - share)

    def asked_within(self, idle_s: float, horizon_s: float) -> float:
        """How likely a model that has been idle for so long is asked within the horizon."""
        return 1.0 - self.survival(idle_s + horizon_s) / self.survival(idle_s)


def history_of(gaps_s: Sequence[float]) -> GapHistory:
    """Oldest first."""
    history = GapHistory()
    for gap_s in gaps_s:
        history = history.add(gap_s)
    return history
