"""What the services of a node say before anything runs there."""

from libs.common.bus.messages import (
    AgentHeartbeat,
    DeviceObserved,
    FetcherHeartbeat,
    HostCacheReport,
)
from services.scheduler.simulation.scenario.machines import NodeGroup

BOOT_ID = "boot"
VERSION = 1  # of the desired state: nodes have always accepted the newest one
CORES = 8  # of each device


def agent_heartbeat(node_id: str, group: NodeGroup) -> AgentHeartbeat:
    memory_bytes = group.device.memory_bytes
    return AgentHeartbeat(
        node_id=node_id,
        boot_id=BOOT_ID,
        sequence=1,
        accepted_version=VERSION,
        devices=tuple(
            DeviceObserved(index=index, kind="cuda", memory_bytes=memory_bytes, cores=CORES)
            for index in range(group.num_devices)
        ),
        workers=(),
        num_standbys=group.num_standbys,
    )


def fetcher_heartbeat(node_id: str, group: NodeGroup) -> FetcherHeartbeat:
    return FetcherHeartbeat(
        node_id=node_id,
        boot_id=BOOT_ID,
        sequence=1,
        accepted_version=VERSION,
        nic_bytes_per_s=round(group.nic_bytes_per_s),
        measured_bytes_per_s=None,
        cache_capacity_bytes=group.host_cache_bytes,
        cache_used_bytes=0,
        cache_max_bytes=group.host_cache_bytes,
        host_cache=HostCacheReport(version=0, since_version=0, num_units=0, set_digest="0" * 32),
        fetches=(),
    )
