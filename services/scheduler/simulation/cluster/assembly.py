"""The nodes of a scenario."""

from collections.abc import Callable

from services.scheduler.simulation.cluster.compute import DeviceCompute
from services.scheduler.simulation.cluster.fetch import Fetcher
from services.scheduler.simulation.cluster.fluid_network import FluidNetwork
from services.scheduler.simulation.cluster.host_cache import HostCache
from services.scheduler.simulation.cluster.modelled_node import ModelledNode
from services.scheduler.simulation.event_queue import EventQueue
from services.scheduler.simulation.leader.cached_models import CachedModels
from services.scheduler.simulation.leader.first_snapshot import agent_heartbeat, fetcher_heartbeat
from services.scheduler.simulation.scenario.machines import NodeGroup
from services.scheduler.simulation.scenario.scenario import Scenario

Heard = Callable[[ModelledNode], None]


def modelled_nodes(
    scenario: Scenario,
    events: EventQueue,
    cached: CachedModels,
    *,
    on_agent: Heard,
    on_fetcher: Heard,
) -> dict[str, ModelledNode]:
    """By id; one network is under all of them."""
    placed = [(id_, group) for group in scenario.nodes for id_ in group.node_ids]
    rates = {id_: group.nic_bytes_per_s for id_, group in placed}
    network = FluidNetwork(events, rates, scenario.egress_bytes_per_s)
    return {
        id_: ModelledNode(
            id_,
            group,
            events,
            tuple(DeviceCompute(scenario.sharing) for _ in range(group.num_devices)),
            _fetcher(id_, group, network, cached),
            agent_heartbeat(id_, group),
            fetcher_heartbeat(id_, group),
            on_agent,
            on_fetcher,
            scenario.keeps_units,
        )
        for id_, group in placed
    }


def _fetcher(
    node_id: str, group: NodeGroup, network: FluidNetwork, cached: CachedModels
) -> Fetcher:
    cache = HostCache(group.host_cache_bytes)
    return Fetcher(node_id, network, cache, cached.added, cached.removed)
