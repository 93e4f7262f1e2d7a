"""The network of the last snapshot, brought up to date by what has changed since. Pure but for its
memory."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from libs.common.bus.messages import FetchObserved
from services.scheduler.policy.network.known_rates import KnownRates, Rates
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.network.node_flows import NodeFlows
from services.scheduler.policy.network.observed_flows import has_unreported, node_flows
from services.scheduler.policy.nodes.changed_keys import changed_keys
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

    broken: dict[str, str] = field(default_factory=dict)  # nodes that are left out, with errors
    num_made: int = 0  # nodes' flows, since the start
    _last: Snapshot = field(default_factory=lambda: Snapshot(now_s=0.0))
    _deadlines_s: Mapping[str, float] = field(default_factory=dict)
    _rates: Rates = field(default_factory=KnownRates)
    _sources: dict[str, _Sources] = field(default_factory=dict)
    _again: set[str] = field(default_factory=set)  # whatever becomes of them, next time too
    _network: Network = field(default_factory=lambda: Network.of({}))

    def network(
        self, snapshot: Snapshot, deadlines_s: Mapping[str, float], rates: Rates
    ) -> Network:
        """`deadlines_s`: of starts, by endpoint. Nobody changes it once it is here."""
        changed = self._changed(snapshot, rates)
        forced = self._again | self._nodes_of(
            snapshot, changed_keys(self._deadlines_s, deadlines_s)
        )
        self._last, self._deadlines_s, self._rates = snapshot, deadlines_s, rates
        self._again = set()
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
            *changed_keys(last.observed.fetchers, snapshot.observed.fetchers),
            *changed_keys(last.devices, snapshot.devices),
            *changed_keys(last.endpoints.versions("node"), snapshot.endpoints.versions("node")),
            *changed_keys(self._rates.nics, rates.nics),
        }

    def _nodes_of(self, snapshot: Snapshot, endpoint_ids: Iterable[str]) -> set[str]:
        endpoints = map(snapshot.endpoints.get, endpoint_ids)
        return {w.node_id for endpoint in endpoints if endpoint for w in endpoint.workers}

    def _laid_out(self) -> Network:
        """With a row for each node; rarely, nodes come or go."""
        devices, before = self._last.devices, self._network
        if before.row_of.keys() == devices.keys():
            return before
        self._sources = {id_: own for id_, own in self._sources.items() if id_ in devices}
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
        try:
            if has_unreported(snapshot, node_id):
                self._again.add(node_id)
            return node_flows(snapshot, node_id, self._deadlines_s, self._rates)
        except Exception as exc:  # whatever it is: it is this node's
            self.broken[node_id] = repr(exc)
            self._again.add(node_id)
            return None
