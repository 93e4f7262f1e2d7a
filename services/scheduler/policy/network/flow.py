"""A fetch as the network sees it: bytes that its node's NIC still has to carry. Pure."""

from dataclasses import dataclass

from libs.common.states import FetchClass

EPSILON_S = 1e-6  # what ends within a microsecond of its deadline is in time


@dataclass(frozen=True)
class Flow:
    fetch_id: str
    node_id: str
    fetch_class: FetchClass
    # As the fetcher last reported. Nothing is assumed to have come since: in a second without a
    # report a fetch may have moved on as well as stood still.
    remaining_bytes: int
    deadline_s: float | None = None  # monotonic; None: it has none, and keeps nobody away

    @property
    def is_interactive(self) -> bool:
        return self.fetch_class is FetchClass.INTERACTIVE
