"""The cluster as the planner may use it: nodes heard lately, without workers unknown to rows."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from services.scheduler.policy.cluster import Device
from services.scheduler.policy.network.network_memo import NetworkMemo
from services.scheduler.policy.nodes.changed_keys import LastComparison, changed_keys
from services.scheduler.policy.nodes.cluster import Cluster, Layout
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.nodes.node_values import NodeInputs, NodeValue
from services.scheduler.policy.planning.feasibility import KnownDevices
from services.scheduler.policy.snapshot import Snapshot

NOTHING = Snapshot(now_s=0.0)


@dataclass
class NodeMemo:
    """The cluster of the last snapshot: of a thousand nodes few change between two, and only those
    are looked at. What it answers is the same as without a last one."""

    broken: dict[str, str] = field(default_factory=dict)  # nodes of the last cluster, with errors
    num_made: int = 0  # node values, since the start
    known_devices: KnownDevices = field(default_factory=KnownDevices)
    network: NetworkMemo = field(init=False)
    _fetchers: LastComparison = field(default_factory=LastComparison)
    _last: Snapshot = NOTHING
    _silent: frozenset[str] = frozenset()
    _retried: set[str] = field(default_factory=set)  # whatever becomes of them, next time too
    _values: dict[str, NodeValue] = field(default_factory=dict)
    _cluster: Cluster = field(default_factory=lambda: Cluster.of(()))

    def __post_init__(self) -> None:
        self.network = NetworkMemo(self._fetchers)

    def cluster(self, snapshot: Snapshot) -> Cluster:
        """A node of which no sense can be made is left out, and named in `broken`."""
        changed, silent = self._changed(snapshot), _silent_nodes(snapshot)
        changed |= (silent ^ self._silent) | self._retried
        self._cluster = self._laid_out(snapshot, changed)
        self._last, self._silent = snapshot, silent
        self.broken.clear()
        self._retried.clear()
        found = {id_: self._usable(id_) for id_ in sorted(changed) if id_ in snapshot.devices}
        self._cluster = self._cluster.changed(
            {id_: node for id_, node in found.items() if node is not self._cluster.get(id_)}
        )
        return self._cluster

    def _changed(self, snapshot: Snapshot) -> set[str]:
        """Nodes of which anything was said or written since."""
        before, last = self._last.observed, self._last
        return {
            *changed_keys(before.agents, snapshot.observed.agents),
            *self._fetchers.changed_keys(before.fetchers, snapshot.observed.fetchers),
            *changed_keys(last.devices, snapshot.devices),
            *changed_keys(last.nodes, snapshot.nodes),
            *changed_keys(last.measured.nodes, snapshot.measured.nodes),
            *snapshot.endpoints.keys_changed_since(last.endpoints, "node"),
        }

    def _laid_out(self, snapshot: Snapshot, changed: set[str]) -> Cluster:
        """With a place for each device; rarely, devices come or go."""
        layout, devices = self._cluster.layout, snapshot.devices
        is_same = len(layout.devices) == len(devices) and all(
            layout.fits(id_, devices[id_]) for id_ in changed if id_ in devices
        )
        if is_same:
            return self._cluster
        new = Cluster.without_nodes(Layout.of(devices))
        self._values = {id_: v for id_, v in self._values.items() if id_ in devices}
        kept = {node.id: node for node in self._cluster.nodes if node.id in devices}
        return new.changed({id_: n for id_, n in kept.items() if id_ not in changed})

    def _usable(self, node_id: str) -> Node | None:
        snapshot = self._last
        if node_id in self._silent or not snapshot.devices[node_id]:
            return None
        try:
            value = self._value(node_id)
        except Exception as exc:  # whatever it is: it is this node's
            self.broken[node_id] = repr(exc)
            self._retried.add(node_id)
            return None
        if value is None:
            return None
        if not value.is_settled:
            self._retried.add(node_id)
        return value.usable

    def _value(self, node_id: str) -> NodeValue | None:
        known = self._values.get(node_id)
        inputs = NodeInputs.of(self._last, node_id, None if known is None else known.inputs)
        if inputs is None:
            return None
        if known is not None and known.is_settled and inputs.says_the_same(known.inputs):
            return known
        self.num_made += 1
        value = self._values[node_id] = NodeValue.of(self._last, inputs, known)
        return value


def usable_cluster(snapshot: Snapshot, memo: NodeMemo | None = None) -> Cluster:
    return (memo or NodeMemo()).cluster(snapshot)


def by_node(devices: Iterable[Device]) -> dict[str, tuple[Device, ...]]:
    """In the order of their indexes."""
    found: defaultdict[str, list[Device]] = defaultdict(list)
    for device in devices:
        found[device.node_id].append(device)
    return {
        node_id: tuple(sorted(own, key=lambda device: device.index))
        for node_id, own in found.items()
    }


def _silent_nodes(snapshot: Snapshot) -> frozenset[str]:
    """Nothing new is planned there: a service is silent, or its agent so long that it is lost."""
    observed, limits = snapshot.observed, snapshot.limits
    stale = observed.silent_nodes(limits.node_stale_s)
    return frozenset(stale | observed.silent_nodes(limits.node_lost_s, ("agent",)))
