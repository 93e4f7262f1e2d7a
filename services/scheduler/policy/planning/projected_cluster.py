"""The cluster as it would be: empty, without some endpoints, or with a plan carried out. Pure."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from services.scheduler.policy.cluster import Device, DeviceSize, Endpoint, Worker
from services.scheduler.policy.nodes.cluster import Cluster
from services.scheduler.policy.nodes.node import CachePin, Node
from services.scheduler.policy.planning.memory import file_bytes
from services.scheduler.policy.planning.plans import Plan, StagePlan

C = TypeVar("C")


def empty_cluster(sizes: Iterable[DeviceSize]) -> Cluster:
    """Nothing runs, nothing is cached and every node is trusted."""
    by_node: defaultdict[str, list[DeviceSize]] = defaultdict(list)
    for size in sizes:
        by_node[size.node_id].append(size)
    return Cluster.of(_empty_node(own) for own in by_node.values())


def _empty_node(sizes: list[DeviceSize]) -> Node:
    first = sizes[0]
    return Node(
        id=first.node_id,
        devices=tuple(
            Device(
                *(s.node_id, s.index, s.memory_bytes, 0),
                cores=1,
                worker_bytes=s.worker_bytes,
                has_bfloat16=s.has_bfloat16,
            )
            for s in sorted(sizes, key=lambda size: size.index)
        ),
        nic_bytes_per_s=first.nic_bytes_per_s,
        num_fetches=0,
        cache_bytes=first.cache_bytes,
    )


def without(cluster: Cluster, endpoints: Iterable[Endpoint]) -> Cluster:
    """Their device memory is free, and what they hold of the host caches can be evicted."""
    leaving: defaultdict[str, list[Worker]] = defaultdict(list)
    for endpoint in endpoints:
        for worker in endpoint.leaving_workers:
            leaving[worker.node_id].append(worker)
    return _changed_nodes(cluster, leaving, _without)


def _without(node: Node, leaving: list[Worker]) -> Node:
    freed: defaultdict[int, int] = defaultdict(int)
    for worker in leaving:
        freed[worker.device_index] += worker.device_bytes
    gone = {worker.id for worker in leaving}
    return _changed(
        node,
        {index: -bytes_ for index, bytes_ in freed.items()},
        tuple(holding for holding in node.cache_pins if holding.worker_id not in gone),
    )


def with_plans(cluster: Cluster, plans: Iterable[Plan]) -> Cluster:
    """What they need is taken, even where it is not free yet."""
    stages: defaultdict[str, list[StagePlan]] = defaultdict(list)
    for plan in plans:
        for stage in plan.stages:
            stages[stage.node_id].append(stage)
    return _changed_nodes(cluster, stages, _with_stages)


def with_suspects(cluster: Cluster, node_ids: Collection[str]) -> Cluster:
    """For a model that failed on these nodes lately."""
    found = (cluster.get(node_id) for node_id in node_ids)
    return cluster.changed({n.id: replace(n, is_suspect=True) for n in found if n is not None})


def _changed_nodes(
    cluster: Cluster, changes: Mapping[str, C], change: Callable[[Node, C], Node]
) -> Cluster:
    """Those of them that can be used."""
    found = ((cluster.get(node_id), of_node) for node_id, of_node in changes.items())
    return cluster.changed({n.id: change(n, of_node) for n, of_node in found if n is not None})


def _with_stages(node: Node, stages: list[StagePlan]) -> Node:
    taken: defaultdict[int, int] = defaultdict(int)
    for stage in stages:
        taken[stage.device_index] += stage.device_bytes
    planned = [CachePin("", {unit.digest: file_bytes(unit) for unit in s.units}) for s in stages]
    changed = _changed(node, taken, (*node.cache_pins, *planned))
    return replace(
        changed,
        num_fetches=node.num_fetches + len(stages),
        num_standbys=max(0, node.num_standbys - len(stages)),
    )


def _changed(node: Node, taken: dict[int, int], cache_pins: tuple[CachePin, ...]) -> Node:
    devices = tuple(
        replace(device, reserved_bytes=device.reserved_bytes + taken[device.index])
        if device.index in taken
        else device
        for device in node.devices
    )
    return replace(node, devices=devices, cache_pins=cache_pins)
