"""What to do when a model fits nowhere now: let idle endpoints go, wait, or say never."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from libs.common.states import EndpointState, RequestOutcome
from services.scheduler.policy.cluster import Cluster, Demand, Deployable, DeviceSize, Endpoint
from services.scheduler.policy.planning import planner
from services.scheduler.policy.planning.memory import files_bytes, kv_budget_bytes
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.planning.reclaim import reclaim
from services.scheduler.rounds.refusal import refuse
from services.scheduler.rounds.round import Round
from services.scheduler.store import endpoints, requests, sizes

logger = logging.getLogger(__name__)

MIN_IDLE_S = 1.0  # an endpoint that answered a moment ago is not taken away


async def make_room(
    round_: Round,
    deployable: Deployable,
    cluster: Cluster,
    fleet: tuple[Endpoint, ...],
    demands: Mapping[str, Demand],
) -> Plan | None:
    """What will fit when those who were asked to go are gone; None while nothing would help, and
    while this leader may not have heard every node."""
    if not round_.observed.knows_all_nodes(round_.timing.acquaintance_s):
        return None
    message = shortage(deployable, await sizes.load_sizes(round_.session))
    if message is not None:
        waiting = await requests.load_queued_of(round_.session, [deployable.model.id])
        await refuse(round_, waiting, RequestOutcome.MODEL_FAILED, "no_capacity", message)
        return None
    idle = [endpoint for endpoint in fleet if _may_go(endpoint, demands)]
    found = reclaim(cluster, fleet, idle, deployable)
    if found is None:
        return None
    for endpoint in found.victims:
        logger.info("endpoint %s gives way to model %s", endpoint.id, deployable.model.id)
        await endpoints.set_draining(round_.session, endpoint.id)
        round_.changed_nodes.update(worker.node_id for worker in endpoint.workers)
    return found.plan


def shortage(deployable: Deployable, known: Sequence[DeviceSize]) -> str | None:
    """Why empty devices of these sizes could never hold the model; None if they could, and while
    no device is known at all."""
    if not known or planner.fits_in(known, deployable):
        return None
    any_cache = [replace(size, cache_bytes=None) for size in known]
    if planner.fits_in(any_cache, deployable):
        return _cache_shortage(deployable, max(size.cache_bytes or 0 for size in known))
    return _memory_shortage(deployable, max(size.memory_bytes for size in known))


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


def _may_go(endpoint: Endpoint, demands: Mapping[str, Demand]) -> bool:
    is_idle = endpoint.idle_s is not None and endpoint.idle_s >= MIN_IDLE_S
    is_wanted = endpoint.model_id in demands or endpoint.num_assigned > 0
    may_end = endpoint.state in (EndpointState.STANDALONE, EndpointState.PIPELINED)
    return may_end and is_idle and not is_wanted
