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
    # Nodes out of whose host caches it comes; none: it comes from the object store.
    sender_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert not (self.sender_ids and self.is_interactive), "who waits is served by the store"

    @property
    def is_interactive(self) -> bool:
        return self.fetch_class is FetchClass.INTERACTIVE
