"""Whether empty devices could ever hold a model, and if not, what is missing. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from libs.common.engines import BFLOAT16
from services.scheduler.policy.cluster import Deployable, DeviceSize
from services.scheduler.policy.nodes.cluster import Cluster
from services.scheduler.policy.planning import planner
from services.scheduler.policy.planning.memory import files_bytes, kv_budget_bytes


def shortage(deployable: Deployable, known: Sequence[DeviceSize]) -> str | None:
    """Why empty devices of these sizes could never hold the model; None if they could, and while
    no device is known at all."""
    if not known or planner.fits_in(known, deployable):
        return None
    known = [size for size in known if size.has_bfloat16 or deployable.summary.dtype != BFLOAT16]
    if not known:
        return _type_shortage(deployable)
    any_cache = [replace(size, cache_bytes=None) for size in known]
    if planner.fits_in(any_cache, deployable):
        return _cache_shortage(deployable, max(size.cache_bytes or 0 for size in known))
    return _memory_shortage(deployable, max(size.memory_bytes for size in known))


def usable_sizes(known: Sequence[DeviceSize], cluster: Cluster) -> tuple[DeviceSize, ...]:
    """Of the nodes that can be used now, with no more host cache than their file systems have room
    for beside what others keep there."""
    nodes = {node.id: node for node in cluster.nodes}
    return tuple(
        replace(size, cache_bytes=nodes[size.node_id].cache_bytes)
        for size in known
        if size.node_id in nodes
    )


def _type_shortage(deployable: Deployable) -> str:
    return (
        f"model {deployable.model.name} is bfloat16, which none of the devices computes; register "
        "a float16 checkpoint of it, or add GPUs of compute capability 8.0 and more"
    )


def _memory_shortage(deployable: Deployable, largest_bytes: int) -> str:
    model, weight_bytes = deployable.model, deployable.summary.weight_bytes
    kv_bytes = kv_budget_bytes(model, deployable.summary)
    return (
        f"model {model.name} needs {weight_bytes + kv_bytes} bytes of device memory "
        f"(weights {weight_bytes}, KV cache {kv_bytes}) on at most {model.max_pipeline_size} "
        f"devices, the largest has {largest_bytes}; lower kv_cache_bytes or "
        "max_context_tokens, or add larger devices"
    )


def _cache_shortage(deployable: Deployable, largest_bytes: int) -> str:
    model = deployable.model
    return (
        f"model {model.name} needs {files_bytes(deployable.summary)} bytes of host cache "
        f"(its weights) on at most {model.max_pipeline_size} nodes, the largest host cache has "
        f"{largest_bytes}; raise max_pipeline_size, or add nodes or larger host caches"
    )
