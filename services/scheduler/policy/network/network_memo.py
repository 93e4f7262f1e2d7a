"""The network of the last snapshot, brought up to date by what has changed since. Pure but for its
memory."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from libs.common.bus.messages import FetchObserved
from services.scheduler.policy.network.awaited_fetches import AwaitedFetches
from services.scheduler.policy.network.known_rates import KnownRates, Rates
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.network.node_flows import NodeFlows
from services.scheduler.policy.network.observed_flows import node_flows
from services.scheduler.policy.nodes.changed_keys import LastComparison, changed_keys
from services.scheduler.policy.snapshot import Snapshot


@dataclass(frozen=True, eq=False)
class _Sources:
    """What a node's flows were made of: the same objects say the same again."""

    fetches: tuple[FetchObserved, ...] | None
    nic_bytes_per_s: float
    endpoints: object

    @classmethod
    def of(cls, snapshot: Snapshot, node_id: str, rates: Rates) -> "_Sources":
        heard = snapshot.observed.fetchers.get(node_id)
        endpoints = snapshot.endpoints.versions("node").get(node_id)
        if heard is None:
            return cls(None, 0.0, endpoints)
        cap_bytes_per_s = heard.heartbeat.nic_bytes_per_s
        rate = rates.nic_bytes_per_s(node_id, cap_bytes_per_s)
        return cls(heard.heartbeat.fetches, rate, endpoints)

    def is_same(self, other: "_Sources | None") -> bool:
        return (
            other is not None
            and self.fetches is other.fetches
            and self.nic_bytes_per_s == other.nic_bytes_per_s
            and self.endpoints is other.endpoints
        )


@dataclass
class NetworkMemo:
    """What it answers is what `network_of` does. Of a thousand nodes few change between two
    snapshots, and only their flows are made anew."""

    fetchers: LastComparison = field(default_factory=LastComparison)
    broken: dict[str, str] = field(default_factory=dict)  # nodes that are left out, with errors
    num_made: int = 0  # nodes' flows, since the start
    _last: Snapshot = field(default_factory=lambda: Snapshot(now_s=0.0))
    _deadlines_s: Mapping[str, float] = field(default_factory=dict)
    _rates: Rates = field(default_factory=KnownRates)
    _sources: dict[str, _Sources] = field(default_factory=dict)
    _awaited: dict[str, AwaitedFetches] = field(default_factory=dict)  # by node that has any
    _network: Network = field(default_factory=lambda: Network.of({}))
    _laid_out_for: Mapping[str, object] = field(default_factory=dict)  # devices by node

    def network(
        self, snapshot: Snapshot, deadlines_s: Mapping[str, float], rates: Rates
    ) -> Network:
        """`deadlines_s`: of starts, by endpoint. Nobody changes it once it is here."""
        changed = self._changed(snapshot, rates)
        forced = {*self.broken, *self._with_other_awaited(snapshot, deadlines_s)}
        self._last, self._deadlines_s, self._rates = snapshot, deadlines_s, rates
        self.broken.clear()
        network = self._laid_out().with_egress(rates.egress_bytes_per_s)
        found = {
            node_id: self._made(node_id)
            for node_id in sorted(changed | forced)
            if node_id in snapshot.devices and (self._is_new(node_id) or node_id in forced)
        }
        known = network.get
        self._network = network.changed({i: n for i, n in found.items() if n != known(i)})
        return self._network

    def _changed(self, snapshot: Snapshot, rates: Rates) -> set[str]:
        """Nodes of which anything was said or written since."""
        last = self._last
        return {
            *self.fetchers.changed_keys(last.observed.fetchers, snapshot.observed.fetchers),
            *changed_keys(last.devices, snapshot.devices),
            *snapshot.endpoints.keys_changed_since(last.endpoints, "node"),
            *changed_keys(self._rates.nics, rates.nics),
        }

    def _with_other_awaited(
        self, snapshot: Snapshot, deadlines_s: Mapping[str, float]
    ) -> Iterator[str]:
        """Nodes of whose fetches anything is known that was not."""
        last, known = self._last, self._awaited.items()
        if deadlines_s is not self._deadlines_s:
            get = deadlines_s.get
            yield from (id_ for id_, own in known for e, at_s in own.deadlines_s if get(e) != at_s)
        if snapshot.summaries is not last.summaries or snapshot.cached is not last.cached:
            yield from (id_ for id_, own in known if not own.has_same_contents(snapshot))

    def _laid_out(self) -> Network:
        """With a row for each node; rarely, nodes come or go."""
        devices, before = self._last.devices, self._network
        if devices is self._laid_out_for or before.row_of.keys() == devices.keys():
            self._laid_out_for = devices
            return before
        self._sources = {id_: own for id_, own in self._sources.items() if id_ in devices}
        self._awaited = {id_: own for id_, own in self._awaited.items() if id_ in devices}
        new = Network.without_nodes(sorted(devices))
        return new.changed({id_: before.get(id_) for id_ in before.row_of if id_ in devices})

    def _is_new(self, node_id: str) -> bool:
        """Whether it says other things than before."""
        sources = _Sources.of(self._last, node_id, self._rates)
        is_same = sources.is_same(self._sources.get(node_id))
        self._sources[node_id] = sources
        return not is_same

    def _made(self, node_id: str) -> NodeFlows | None:
        snapshot = self._last
        self.num_made += 1
        self._awaited.pop(node_id, None)
        try:
            awaited = AwaitedFetches.of(snapshot, node_id, self._deadlines_s)
            if awaited is not None:
                self._awaited[node_id] = awaited
            return node_flows(snapshot, node_id, self._deadlines_s, self._rates)
        except Exception as exc:  # whatever it is: it is this node's
            self.broken[node_id] = repr(exc)
            return None
