"""Runs flows that share the object store's egress to their ends, one end after the other. Pure.

Every flow gets an equal part of its node's NIC, or the level that the egress allows, whichever is
less (`fair_sharing.py`). Between two ends rates are constant. When a flow ends, the level and the
shares of its node can only rise, so each end moves few nodes between the two groups: those whose
NIC is the limit, and those that the egress holds back. Of the second all flows advance alike, and
one number says how far: what a flow has got that the egress held back from the beginning. So an end
costs a few steps in heaps, however many nodes there are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf


@dataclass(eq=False)
class SharingNode:
    """A node's flows of one class, on their way to their ends."""

    nic_bytes_per_s: float
    remaining_bytes: Sequence[float]  # of each flow at the beginning, ascending
    ends_s: list[float] = field(default_factory=list)  # so far, in the same order
    is_held: bool = False  # by the egress; else its NIC is the limit
    got_bytes: float = 0.0  # by each of its flows that are left, as of `mark`
    mark: float = 0.0  # the progress of the egress while it is held, else the time
    version: int = 0  # entries in heaps with an earlier one are void

    @property
    def num_left(self) -> int:
        return len(self.remaining_bytes) - len(self.ends_s)

    @property
    def share_bytes_per_s(self) -> float:
        return self.nic_bytes_per_s / self.num_left

    @property
    def next_bytes(self) -> float:
        """What the flow that ends first needs from `mark` on."""
        return self.remaining_bytes[len(self.ends_s)] - self.got_bytes


@dataclass
class _Queue:
    """Nodes by a figure that stays the same while they do; the least is first."""

    entries: list[tuple[float, int, int, SharingNode]] = field(default_factory=list)
    num_added: int = 0

    def add(self, figure: float, node: SharingNode) -> None:
        self.num_added += 1
        heappush(self.entries, (figure, self.num_added, node.version, node))

    def first(self) -> tuple[float, SharingNode] | None:
        while self.entries:
            figure, _, version, node = self.entries[0]
            if version == node.version:
                return figure, node
            heappop(self.entries)
        return None


class EgressSharing:
    """One run. Nodes may join it, and its capacity may grow, while it goes on."""

    def __init__(self, capacity_bytes_per_s: float) -> None:
        self.capacity_bytes_per_s = capacity_bytes_per_s
        self.now_s = 0.0
        # How much the nodes use, from each of these moments on.
        self.used_bytes_per_s: list[tuple[float, float]] = []
        self._progress_bytes = 0.0  # of a flow that was held all the time
        self._num_held = 0  # flows
        self._full_bytes_per_s = 0.0  # NICs that are the limit, together
        self._at_nic: dict[int, SharingNode] = {}
        self._by_share, self._by_progress, self._by_time = _Queue(), _Queue(), _Queue()

    def join(self, nodes: Iterable[SharingNode]) -> None:
        """Each has a flow at least. The level falls, and may be below what was held by NICs."""
        for node in tuple(self._at_nic.values()):
            self._take_out(node)
            self._put_in(node, is_held=True)
        for node in nodes:
            self._put_in(node, is_held=True)
        self._settle()

    def grow(self, capacity_bytes_per_s: float) -> None:
        self.capacity_bytes_per_s = capacity_bytes_per_s
        self._settle()

    def run(self, until_s: float = inf) -> None:
        """To the last end, or to that moment. What gets nothing stays without an end."""
        while True:
            end_s, node = self._next_end()
            if node is None or end_s > until_s or end_s == inf:
                break
            self._advance(end_s)
            self._end_flow(node)
        if until_s < inf:
            self._advance(until_s)

    @property
    def _level(self) -> float:
        """The rate of each flow that is held."""
        if not self._num_held:
            return inf
        return (self.capacity_bytes_per_s - self._full_bytes_per_s) / self._num_held

    def _next_end(self) -> tuple[float, SharingNode | None]:
        at_nic, held = self._by_time.first(), self._by_progress.first()
        end_s, node = at_nic or (inf, None)
        if held is not None and self._level > 0:
            held_s = self.now_s + max(0.0, held[0] - self._progress_bytes) / self._level
            if held_s < end_s:
                return held_s, held[1]
        return end_s, node

    def _advance(self, to_s: float) -> None:
        if self._num_held:
            self._progress_bytes += self._level * (to_s - self.now_s)
        self.now_s = to_s

    def _end_flow(self, node: SharingNode) -> None:
        """The next one of the node."""
        got_bytes = node.remaining_bytes[len(node.ends_s)]
        self._take_out(node)
        node.ends_s.append(self.now_s)
        node.got_bytes = got_bytes
        if node.num_left:
            self._put_in(node, is_held=True)
        self._settle()

    def _take_out(self, node: SharingNode) -> None:
        """With what its flows have got by now."""
        node.version += 1
        if node.is_held:
            node.got_bytes += self._progress_bytes - node.mark
            self._num_held -= node.num_left
        else:
            node.got_bytes += (self.now_s - node.mark) * node.share_bytes_per_s
            self._full_bytes_per_s -= node.nic_bytes_per_s
            del self._at_nic[id(node)]

    def _put_in(self, node: SharingNode, *, is_held: bool) -> None:
        node.version += 1
        node.is_held = is_held
        if is_held:
            node.mark = self._progress_bytes
            self._num_held += node.num_left
            self._by_share.add(node.share_bytes_per_s, node)
            self._by_progress.add(node.mark + node.next_bytes, node)
        else:
            node.mark = self.now_s
            self._full_bytes_per_s += node.nic_bytes_per_s
            self._at_nic[id(node)] = node
            self._by_time.add(node.mark + node.next_bytes / node.share_bytes_per_s, node)

    def _settle(self) -> None:
        """Nodes whose share is below the level have their NIC as the limit; then it rises on."""
        while (least := self._by_share.first()) is not None and least[0] < self._level:
            self._take_out(least[1])
            self._put_in(least[1], is_held=False)
        if not self._at_nic:
            self._full_bytes_per_s = 0.0  # what rounding has left
        used = self.capacity_bytes_per_s if self._num_held else self._full_bytes_per_s
        if not self.used_bytes_per_s or self.used_bytes_per_s[-1][1] != used:
            self.used_bytes_per_s.append((self.now_s, used))
