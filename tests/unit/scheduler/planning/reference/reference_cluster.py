"""Changes of a cluster as one would first write them: all nodes are walked. See
`reference_planner.py`."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from services.scheduler.policy.cluster import Endpoint, Worker
from services.scheduler.policy.nodes.node import CachePin, Node
from services.scheduler.policy.planning.memory import file_bytes
from services.scheduler.policy.planning.plans import Plan, StagePlan


def without(nodes: Sequence[Node], endpoints: Iterable[Endpoint]) -> list[Node]:
    """Their device memory is free, and what they hold of the host caches can be evicted."""
    leaving: defaultdict[str, list[Worker]] = defaultdict(list)
    for endpoint in endpoints:
        for worker in endpoint.workers:
            leaving[worker.node_id].append(worker)
    return [_without(node, leaving[node.id]) if node.id in leaving else node for node in nodes]


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


def with_plans(nodes: Sequence[Node], plans: Iterable[Plan]) -> list[Node]:
    """What they need is taken, even where it is not free yet."""
    stages: defaultdict[str, list[StagePlan]] = defaultdict(list)
    for plan in plans:
        for stage in plan.stages:
            stages[stage.node_id].append(stage)
    return [_with_stages(node, stages[node.id]) if node.id in stages else node for node in nodes]


def with_suspects(nodes: Sequence[Node], node_ids: Collection[str]) -> list[Node]:
    """For a model that failed on these nodes lately."""
    return [replace(node, is_suspect=True) if node.id in node_ids else node for node in nodes]


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
        replace(device, reserved_bytes=device.reserved_bytes + taken.get(device.index, 0))
        for device in node.devices
    )
    return replace(node, devices=devices, cache_pins=cache_pins)
