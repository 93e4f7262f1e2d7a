"""The cluster as it would be, once some endpoints are gone or a plan has been carried out. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from services.scheduler.cluster import Cluster, Endpoint, Holding, Node, Worker
from services.scheduler.memory import file_bytes
from services.scheduler.plans import Plan, StagePlan


def without(cluster: Cluster, endpoints: Iterable[Endpoint]) -> Cluster:
    """Their device memory is free, and what they hold of the host caches can be evicted."""
    leaving: defaultdict[str, list[Worker]] = defaultdict(list)
    for endpoint in endpoints:
        for worker in endpoint.workers:
            leaving[worker.node_id].append(worker)
    return Cluster(
        tuple(
            _without(node, leaving[node.id]) if node.id in leaving else node
            for node in cluster.nodes
        )
    )


def _without(node: Node, leaving: list[Worker]) -> Node:
    freed: defaultdict[int, int] = defaultdict(int)
    for worker in leaving:
        freed[worker.device_index] += worker.device_bytes
    gone = {worker.id for worker in leaving}
    return _changed(
        node,
        {index: -bytes_ for index, bytes_ in freed.items()},
        tuple(holding for holding in node.holdings if holding.worker_id not in gone),
    )


def with_plan(cluster: Cluster, plan: Plan) -> Cluster:
    """What the plan needs is taken, even where it is not free yet."""
    stages: defaultdict[str, list[StagePlan]] = defaultdict(list)
    for stage in plan.stages:
        stages[stage.node_id].append(stage)
    return Cluster(
        tuple(
            _with_stages(node, stages[node.id]) if node.id in stages else node
            for node in cluster.nodes
        )
    )


def _with_stages(node: Node, stages: list[StagePlan]) -> Node:
    taken: defaultdict[int, int] = defaultdict(int)
    for stage in stages:
        taken[stage.device_index] += stage.device_bytes
    planned = [Holding("", {unit.digest: file_bytes(unit) for unit in s.units}) for s in stages]
    return _changed(node, taken, (*node.holdings, *planned))


def _changed(node: Node, taken: dict[int, int], holdings: tuple[Holding, ...]) -> Node:
    devices = tuple(
        replace(device, reserved_bytes=device.reserved_bytes + taken.get(device.index, 0))
        for device in node.devices
    )
    return replace(node, devices=devices, holdings=holdings)
