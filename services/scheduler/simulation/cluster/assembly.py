"""The nodes of a scenario."""

from collections.abc import Callable

from services.scheduler.simulation.cluster.compute import DeviceCompute
from services.scheduler.simulation.cluster.fetch import Fetcher
from services.scheduler.simulation.cluster.first_heartbeats import (
    agent_heartbeat,
    fetcher_heartbeat,
)
from services.scheduler.simulation.cluster.fluid_network import FluidNetwork
from services.scheduler.simulation.cluster.host_cache import HostCache
from services.scheduler.simulation.cluster.memory_gauge import MemoryGauge
from services.scheduler.simulation.cluster.modelled_node import ModelledNode
from services.scheduler.simulation.event_queue import EventQueue
from services.scheduler.simulation.scenario.scenario import Scenario

OnHeard = Callable[[ModelledNode], None]
OnAdded = Callable[[str, str, int], None]  # node, manifest, units
OnRemoved = Callable[[str, str], None]  # node, manifest


def modelled_nodes(
    scenario: Scenario,
    events: EventQueue,
    used: MemoryGauge,
    *,
    on_agent: OnHeard,
    on_fetcher: OnHeard,
    on_added: OnAdded,
    on_removed: OnRemoved,
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
            Fetcher(id_, network, cache, on_added, on_removed),
            agent_heartbeat(id_, group),
            fetcher_heartbeat(id_, group),
            on_agent,
            on_fetcher,
            scenario.keeps_units,
        )
        for id_, group in placed
        for cache in [HostCache(group.host_cache_bytes, used.change)]
    }
