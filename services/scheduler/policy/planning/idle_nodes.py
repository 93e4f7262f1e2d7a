"""The cluster as if nothing ran on it, brought up to date node by node. Pure but for its memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.scheduler.policy.cluster import Device
from services.scheduler.policy.liveness import agent_of
from services.scheduler.policy.nodes.cluster import Cluster
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.nodes.node_values import base_node
from services.scheduler.policy.observed import Observed

MEMORY_OF_NODES_S = 600.0  # a node silent for longer no longer says what the cluster could hold


@dataclass(frozen=True)
class _Facts:
    """All that the value of an idle node is made of."""

    devices: tuple[Device, ...]
    nic_bytes_per_s: int
    cache_bytes: int
    num_standbys: int


@dataclass
class IdleNodes:
    """Remembers each node's value: of a thousand nodes few say something new in a second."""

    num_made: int = 0
    _known: dict[str, tuple[_Facts, Node]] = field(default_factory=dict)
    _cluster: Cluster = field(default_factory=lambda: Cluster.of(()))

    def cluster(self, observed: Observed, devices: Mapping[str, tuple[Device, ...]]) -> Cluster:
        """Of every node that was heard of lately: no start can have more than that. `devices`: by
        node, without reservations."""
        heard = sorted(node_id for node_id in devices if _is_remembered(observed, node_id))
        self._known = {node_id: self._of(observed, node_id, devices[node_id]) for node_id in heard}
        self._cluster = self._cluster.updated([node for _, node in self._known.values()])
        return self._cluster

    def _of(
        self, observed: Observed, node_id: str, devices: tuple[Device, ...]
    ) -> tuple[_Facts, Node]:
        facts, known = _facts(observed, node_id, devices), self._known.get(node_id)
        if known is not None and known[0] == facts:
            return known
        self.num_made += 1
        return facts, replace(base_node(observed, node_id, devices), num_fetches=0)


def _is_remembered(observed: Observed, node_id: str) -> bool:
    if node_id not in observed.fetchers or node_id not in observed.agents:
        return False
    return observed.liveness.silence_s(agent_of(node_id)) < MEMORY_OF_NODES_S


def _facts(observed: Observed, node_id: str, devices: tuple[Device, ...]) -> _Facts:
    fetcher, agent = observed.fetchers[node_id].heartbeat, observed.agents[node_id].heartbeat
    return _Facts(
        devices,
        fetcher.nic_bytes_per_s,
        fetcher.cache_capacity_bytes,
        agent.num_standbys,
    )
