"""Fetches as fluid: each node's NIC, and the object store's egress, are shared max-min fairly.

Interactive fetches share what there is; background ones get what these leave. All fetches of one
class on one node have the same rate, so what is kept is how much each of them was served: a change
of the rate costs the same for one fetch and for a hundred, and touches no other node unless the
store's egress is what limits them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf

from libs.common.states import FetchClass
from services.scheduler.simulation.event_queue import Event, EventQueue

INTERACTIVE, BACKGROUND = FetchClass.INTERACTIVE, FetchClass.BACKGROUND
_HAIR_BYTES = 1e-3  # what rounding may leave of a fetch


@dataclass(eq=False)
class Flow:
    """One fetch. It is over once its group was served `until_bytes`."""

    node_id: str
    size_bytes: float
    on_done: Callable[[], None]
    fetch_class: FetchClass
    until_bytes: float = 0.0
    number: int = 0  # of its entry in the heap of its group; older ones count no more
    is_over: bool = False


@dataclass(eq=False)
class _Group:
    """The flows of one class on one node."""

    node_id: str
    served_bytes: float = 0.0  # of each flow, since the group began
    rate_bytes_per_s: float = 0.0  # of each flow
    at_s: float = 0.0  # of `served_bytes`
    num_flows: int = 0
    heap: list[tuple[float, int, Flow]] = field(default_factory=list)
    event: Event | None = None


@dataclass(eq=False)
class FluidNetwork:
    """`nic_bytes_per_s` is by node; `egress_bytes_per_s` of the store, inf: no limit."""

    events: EventQueue
    nic_bytes_per_s: dict[str, float]
    egress_bytes_per_s: float = inf
    _groups: dict[FetchClass, dict[str, _Group]] = field(
        default_factory=lambda: {INTERACTIVE: {}, BACKGROUND: {}}
    )
    _numbers: Iterator[int] = field(default_factory=partial(count, 1))
    _busy_nic_bytes_per_s: float = 0.0  # of nodes with any flow
    _is_limited_by_egress: bool = False

    def start(
        self,
        node_id: str,
        size_bytes: float,
        on_done: Callable[[], None],
        fetch_class: FetchClass = INTERACTIVE,
    ) -> Flow:
        """`on_done` is called at the moment of the last byte, never before `start` returns."""
        flow = Flow(node_id, size_bytes, on_done, fetch_class)
        self._join(flow, size_bytes)
        self._share(node_id)
        return flow

    def cancel(self, flow: Flow) -> None:
        if flow.is_over:
            return
        flow.is_over = True
        self._leave(flow)
        self._share(flow.node_id)

    def set_class(self, flow: Flow, fetch_class: FetchClass) -> None:
        """What is left of it is fetched in that class."""
        if flow.is_over or flow.fetch_class is fetch_class:
            return
        left_bytes = flow.size_bytes - self.done_bytes(flow)
        self._leave(flow)
        flow.fetch_class = fetch_class
        self._join(flow, left_bytes)
        self._share(flow.node_id)

    def done_bytes(self, flow: Flow) -> float:
        """Of the flow, by now."""
        if flow.is_over:
            return flow.size_bytes
        group = self._groups[flow.fetch_class][flow.node_id]
        self._bring_up_to_date(group)
        return min(flow.size_bytes, flow.size_bytes - flow.until_bytes + group.served_bytes)

    def rate_bytes_per_s(self, node_id: str, fetch_class: FetchClass = INTERACTIVE) -> float:
        """Of each flow of that class there; 0 without any."""
        group = self._groups[fetch_class].get(node_id)
        return 0.0 if group is None else group.rate_bytes_per_s

    def _join(self, flow: Flow, left_bytes: float) -> None:
        node_id, groups = flow.node_id, self._groups[flow.fetch_class]
        group = groups.get(node_id)
        if group is None:
            if not self._has_flows(node_id):
                self._busy_nic_bytes_per_s += self.nic_bytes_per_s[node_id]
            group = groups[node_id] = _Group(node_id, at_s=self.events.now_s)
        self._bring_up_to_date(group)
        flow.until_bytes, flow.number = group.served_bytes + left_bytes, next(self._numbers)
        heappush(group.heap, (flow.until_bytes, flow.number, flow))
        group.num_flows += 1

    def _leave(self, flow: Flow) -> None:
        flow.number = 0
        group = self._groups[flow.fetch_class][flow.node_id]
        group.num_flows -= 1
        self._drop_if_empty(flow.fetch_class, group)

    # ----------------------------------------------------------------- sharing

    def _share(self, node_id: str) -> None:
        """After a flow came or went there."""
        was_limited = self._is_limited_by_egress
        self._is_limited_by_egress = self._busy_nic_bytes_per_s > self.egress_bytes_per_s
        if was_limited or self._is_limited_by_egress:
            self._share_everywhere()
            return
        left = self.nic_bytes_per_s[node_id]
        for fetch_class in (INTERACTIVE, BACKGROUND):
            group = self._groups[fetch_class].get(node_id)
            if group is not None:
                self._set_rate(group, left / group.num_flows)
                left = 0.0

    def _share_everywhere(self) -> None:
        left_of_nic, left_of_egress = dict(self.nic_bytes_per_s), self.egress_bytes_per_s
        for fetch_class in (INTERACTIVE, BACKGROUND):
            groups = list(self._groups[fetch_class].values())
            limit = _water_level(
                [(left_of_nic[g.node_id] / g.num_flows, g.num_flows) for g in groups],
                left_of_egress,
            )
            for group in groups:
                rate = min(left_of_nic[group.node_id] / group.num_flows, limit)
                self._set_rate(group, rate)
                left_of_nic[group.node_id] -= rate * group.num_flows
                left_of_egress = max(0.0, left_of_egress - rate * group.num_flows)

    def _set_rate(self, group: _Group, rate_bytes_per_s: float) -> None:
        self._bring_up_to_date(group)
        group.rate_bytes_per_s = rate_bytes_per_s
        if group.event is not None:
            group.event.cancel()
            group.event = None
        while group.heap[0][2].number != group.heap[0][1]:
            heappop(group.heap)
        if rate_bytes_per_s > 0:
            left_bytes = max(0.0, group.heap[0][0] - group.served_bytes)
            group.event = self.events.after(
                left_bytes / rate_bytes_per_s, partial(self._end_first, group)
            )

    def _bring_up_to_date(self, group: _Group) -> None:
        now_s = self.events.now_s
        group.served_bytes += group.rate_bytes_per_s * (now_s - group.at_s)
        group.at_s = now_s

    def _end_first(self, group: _Group) -> None:
        """The first flow has its last byte, and whoever has it at the same moment."""
        group.event = None
        group.served_bytes, group.at_s = group.heap[0][0], self.events.now_s
        ended: list[Flow] = []
        while group.heap and group.heap[0][0] <= group.served_bytes + _HAIR_BYTES:
            _, number, flow = heappop(group.heap)
            if flow.number == number:
                flow.is_over = True
                ended.append(flow)
        group.num_flows -= len(ended)
        interactive = self._groups[INTERACTIVE].get(group.node_id)
        self._drop_if_empty(INTERACTIVE if interactive is group else BACKGROUND, group)
        self._share(group.node_id)
        for flow in ended:
            flow.on_done()

    def _drop_if_empty(self, fetch_class: FetchClass, group: _Group) -> None:
        if group.num_flows:
            return
        if group.event is not None:
            group.event.cancel()
        del self._groups[fetch_class][group.node_id]
        if not self._has_flows(group.node_id):
            self._busy_nic_bytes_per_s -= self.nic_bytes_per_s[group.node_id]

    def _has_flows(self, node_id: str) -> bool:
        return any(node_id in groups for groups in self._groups.values())


def _water_level(shares: list[tuple[float, int]], capacity: float) -> float:
    """The rate above which nobody gets more, so that all together get the capacity; inf where
    even all shares are less. A share is what a flow could have otherwise, with the number of such
    flows."""
    left, num_left = capacity, sum(number for _, number in shares)
    for share, number in sorted(shares):
        if share * num_left >= left:
            return left / num_left
        left -= share * number
        num_left -= number
    return inf
