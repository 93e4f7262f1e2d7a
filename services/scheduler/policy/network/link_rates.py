"""What links carry: as configured, or as learnt from what fetchers have measured. Pure.

A fetcher measures the throughput of its node's fetches together. That is never more than its link
carries, and less where something else is the limit. What it was, one node alone cannot tell, but
all nodes of one moment can:

- Several nodes below what their NICs are known to carry share what holds them back: together they
  show the store's egress, and nothing about their NICs.
- Else each node shows its own NIC: as much as it has reached lately, and never more than its cap.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from immutables import Map

from libs.common.bus.messages import FetcherHeartbeat
from libs.common.states import FetchState
from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.nodes.node import UNCAPPED_BYTES_PER_S
from services.scheduler.policy.prediction.measurements import Measurements

BELOW = 0.8  # of what a NIC carries: less than that, something else is the limit
MIN_BELOW = 3  # nodes; two may be slow by chance
QUANTILE = 0.9  # nearly the most that was reached lately: one slow moment does not count


@dataclass(frozen=True)
class Throughput:
    """Of a node's fetches together, a moment ago."""

    node_id: str
    bytes_per_s: float
    cap_bytes_per_s: int  # as configured; 0: none

    @classmethod
    def of(cls, heartbeat: FetcherHeartbeat) -> "Throughput | None":
        """None while no bytes arrive: what it says then is from an earlier time."""
        is_fetching = any(fetch.state is FetchState.FETCHING for fetch in heartbeat.fetches)
        if not is_fetching or not heartbeat.measured_bytes_per_s:
            return None
        return cls(heartbeat.node_id, heartbeat.measured_bytes_per_s, heartbeat.nic_bytes_per_s)


@dataclass(frozen=True)
class LinkRates:
    configured_egress_bytes_per_s: float | None = None  # of the object store; None: not known
    nics: Map[str, Measurements] = field(default_factory=Map)  # by node
    egress: Measurements = field(default_factory=Measurements)

    def nic_bytes_per_s(self, node_id: str, cap_bytes_per_s: int) -> float:
        assumed = float(cap_bytes_per_s or UNCAPPED_BYTES_PER_S)
        reached = self.nics.get(node_id)
        if reached is None:
            return assumed
        rate = reached.quantile(QUANTILE, prior=assumed)
        return min(rate, cap_bytes_per_s) if cap_bytes_per_s else rate

    @cached_property
    def egress_bytes_per_s(self) -> float | None:
        """None: it was never seen to be a limit."""
        if self.configured_egress_bytes_per_s is not None:
            return self.configured_egress_bytes_per_s
        reached = self.egress.values
        return self.egress.quantile(QUANTILE, prior=reached[0]) if reached else None

    def after(self, moment: Sequence[Throughput]) -> "LinkRates":
        """With what the nodes that fetch now show. Once a second is enough."""
        below = {node.node_id for node in moment if self._is_below(node)}
        if len(below) < MIN_BELOW:
            below = set()
        total = sum(node.bytes_per_s for node in moment)
        own = {
            node.node_id: self.nics.get(node.node_id, Measurements()).add(node.bytes_per_s)
            for node in moment
            if node.node_id not in below
        }
        has_shown_egress = bool(below) or self._is_beyond_egress(total)
        egress = self.egress.add(total) if has_shown_egress else self.egress
        return replace(self, nics=self.nics.update(own), egress=egress)

    def without(self, node_id: str) -> "LinkRates":
        """For a node that has nothing measured for so long that it says nothing any more."""
        if node_id not in self.nics:
            return self
        return replace(self, nics=self.nics.delete(node_id))

    def _is_below(self, node: Throughput) -> bool:
        """False where it is only assumed what the NIC carries."""
        is_known = bool(node.cap_bytes_per_s) or node.node_id in self.nics
        rate = self.nic_bytes_per_s(node.node_id, node.cap_bytes_per_s)
        return is_known and node.bytes_per_s < BELOW * rate

    def _is_beyond_egress(self, total_bytes_per_s: float) -> bool:
        """More came than it was taken to carry."""
        learnt = self.egress_bytes_per_s if self.egress.values else None
        return learnt is not None and total_bytes_per_s > learnt
