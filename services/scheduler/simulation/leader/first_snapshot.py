"""The snapshot of a leader that knows an empty cluster."""

from collections.abc import Iterator, Mapping

from libs.common.startmode import StartMode
from services.scheduler.policy.cluster import Device, DeviceSize, NodeRecord
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.nodes.cached_units import CachedUnits
from services.scheduler.policy.prediction.figures import Figures
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.simulation.cluster.first_heartbeats import BOOT_ID, CORES, VERSION
from services.scheduler.simulation.scenario.machines import NodeGroup
from services.scheduler.simulation.scenario.scenario import Scenario


def first_snapshot(scenario: Scenario, mode: StartMode, measured: Figures) -> Snapshot:
    assumed_s = scenario.leader.assumed_launch_s
    devices = {id_: tuple(_devices(id_, group, assumed_s)) for id_, group in _nodes(scenario)}
    return Snapshot(
        now_s=0.0,
        limits=Limits(can_consolidate=scenario.consolidation.is_possible),
        mode=mode,
        nodes={id_: NodeRecord(id_, VERSION, BOOT_ID) for id_ in devices},
        devices=devices,
        cached=CachedUnits(),
        measured=measured,
        sizes=tuple(_size(device, group) for device, group in _placed(scenario, devices)),
    )


def _nodes(scenario: Scenario) -> Iterator[tuple[str, NodeGroup]]:
    return ((id_, group) for group in scenario.nodes for id_ in group.node_ids)


def _placed(
    scenario: Scenario, devices: Mapping[str, tuple[Device, ...]]
) -> Iterator[tuple[Device, NodeGroup]]:
    return ((device, group) for id_, group in _nodes(scenario) for device in devices[id_])


def _devices(node_id: str, group: NodeGroup, assumed_s: float | None) -> Iterator[Device]:
    kind = group.device
    for index in range(group.num_devices):
        yield Device(
            node_id,
            index,
            kind.memory_bytes,
            0,
            CORES,
            worker_bytes=kind.process_bytes,
            launch_s=kind.start.launch_s if assumed_s is None else assumed_s,
        )


def _size(device: Device, group: NodeGroup) -> DeviceSize:
    return DeviceSize(
        device.node_id,
        device.index,
        device.memory_bytes,
        group.host_cache_bytes,
        round(group.nic_bytes_per_s),
        device.worker_bytes,
    )
