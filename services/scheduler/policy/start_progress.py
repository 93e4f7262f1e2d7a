"""What a waiting client is told about its cold start. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from libs.common.bus.messages import FetchObserved
from libs.common.states import FetchState

Phase = Literal["queued", "planned", "fetching", "starting", "ready"]


@dataclass(frozen=True)
class StartProgress:
    phase: Phase
    bytes_done: int | None = None
    bytes_total: int | None = None

    @property
    def fraction(self) -> float:
        """Of the bytes, 0 while nothing is known."""
        return (self.bytes_done or 0) / self.bytes_total if self.bytes_total else 0.0


def start_progress(fetches: Sequence[FetchObserved | None]) -> StartProgress:
    """Of an endpoint that starts, from its workers' fetches; None for one not heard of yet."""
    known = [fetch for fetch in fetches if fetch is not None]
    if not known:
        return StartProgress("planned")
    done = sum(fetch.bytes_done for fetch in known)
    total = sum(fetch.bytes_total for fetch in known)
    are_complete = all(fetch.state is FetchState.COMPLETE for fetch in known)
    if are_complete and len(known) == len(fetches):
        return StartProgress("starting", done, total)
    return StartProgress("fetching", done, total)
