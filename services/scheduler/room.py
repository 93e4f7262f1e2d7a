"""What to do when a model fits nowhere now: let idle endpoints go, wait, or say never."""

import logging
from collections.abc import Mapping, Sequence

from libs.common.states import EndpointState, RequestOutcome
from services.scheduler import planner
from services.scheduler.cluster import Cluster, Demand, Deployable, Endpoint
from services.scheduler.farewell import refuse
from services.scheduler.memory import kv_budget_bytes
from services.scheduler.plans import NoRoom
from services.scheduler.reclaim import endpoints_to_drain
from services.scheduler.round import Round
from services.scheduler.store import endpoints, nodes, requests

logger = logging.getLogger(__name__)

MIN_IDLE_S = 1.0  # an endpoint that answered a moment ago is not taken away


async def make_room(
    round_: Round,
    deployable: Deployable,
    missing: NoRoom,
    cluster: Cluster,
    fleet: tuple[Endpoint, ...],
    demands: Mapping[str, Demand],
) -> None:
    message = shortage(deployable, await nodes.load_memory_sizes(round_.session))
    if message is not None:
        waiting = await requests.load_queued_of(round_.session, [deployable.model.id])
        await refuse(round_, waiting, RequestOutcome.MODEL_FAILED, "no_capacity", message)
        return
    idle = [endpoint for endpoint in fleet if _may_go(endpoint, demands)]
    for endpoint in endpoints_to_drain(cluster, fleet, idle, missing.needed_bytes):
        logger.info("endpoint %s gives way to model %s", endpoint.id, deployable.model.id)
        await endpoints.set_draining(round_.session, endpoint.id)
        round_.changed_nodes.update(worker.node_id for worker in endpoint.workers)


def shortage(deployable: Deployable, memory_bytes: Sequence[int]) -> str | None:
    """Why empty devices of these sizes could never hold the model; None if they could, and while
    no device is known at all."""
    if not memory_bytes or planner.fits_in(memory_bytes, deployable):
        return None
    model, weight_bytes = deployable.model, deployable.summary.weight_bytes
    kv_bytes = kv_budget_bytes(model, deployable.summary)
    return (
        f"model {model.name} needs {weight_bytes + kv_bytes} bytes of device memory "
        f"(weights {weight_bytes}, KV cache {kv_bytes}) on at most {model.max_pipeline_size} "
        f"devices, the largest has {max(memory_bytes)}; lower kv_cache_bytes or "
        "max_context_tokens, or add larger devices"
    )


def _may_go(endpoint: Endpoint, demands: Mapping[str, Demand]) -> bool:
    is_idle = endpoint.idle_s is not None and endpoint.idle_s >= MIN_IDLE_S
    is_wanted = endpoint.model_id in demands or endpoint.num_assigned > 0
    may_end = endpoint.state in (EndpointState.STANDALONE, EndpointState.PIPELINED)
    return may_end and is_idle and not is_wanted
