"""An endpoint's way from a pipeline to its entry alone, and tries that came to nothing. Pure."""

from dataclasses import dataclass

from libs.common.states import ConsolidationState

# Between two tries of one endpoint: doubled by each that came to nothing.
FIRST_BACKOFF_S = 5.0
LONGEST_BACKOFF_S = 60.0
MAX_TRIES = 8  # then it stays a pipeline


@dataclass(frozen=True)
class Consolidation:
    """An open one, of an endpoint's entry; or of another worker, which then becomes an endpoint of
    its own."""

    id: str
    generation: int  # of the endpoint, that it leads to
    fetch_id: str
    unit_digests: tuple[str, ...]  # that the worker lacks, in the order in which it needs them
    state: ConsolidationState
    began_at_s: float
    timeout_s: float  # for the weights to come


@dataclass(frozen=True)
class ConsolidationTries:
    """Of one endpoint, those that its entry or a fetch gave up."""

    count: int = 0
    last_at_s: float = 0.0  # when the last one ended

    def one_more(self, at_s: float) -> "ConsolidationTries":
        return ConsolidationTries(self.count + 1, at_s)

    @property
    def backoff_s(self) -> float:
        """From the end of the last one until the next may begin."""
        if not self.count:
            return 0.0
        doubled: float = FIRST_BACKOFF_S * 2.0 ** (self.count - 1)
        return min(LONGEST_BACKOFF_S, doubled)

    def may_try(self, now_s: float) -> bool:
        if not self.count:
            return True
        return self.count < MAX_TRIES and now_s >= self.last_at_s + self.backoff_s


NO_TRIES = ConsolidationTries()
