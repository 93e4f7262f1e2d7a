"""What moves of endpoints change in rows. Endpoints that begin to serve are written together, the
rarer moves one after the other."""

import logging
from collections.abc import Sequence

from libs.common.cause_words import words
from libs.common.causes import Cause, CauseKind
from libs.common.states import ConsolidationState, EndpointState
from services.scheduler.policy import decisions as d
from services.scheduler.rounds.batches.batch_state import BatchState
from services.scheduler.rounds.damage import import_again_if_damaged
from services.scheduler.store import endpoints, models, workers
from services.scheduler.store.consolidations.ends import ConsolidationEnd, end_of_endpoints
from services.scheduler.store.endpoints import Serving
from services.scheduler.store.starts import coldstarts

logger = logging.getLogger(__name__)


async def serve_endpoints(batch: BatchState, decisions: Sequence[d.ServeEndpoint]) -> None:
    """Nothing that an endpoint did before can follow this in one round, so it may be first."""
    if not decisions:
        return
    serving, bytes_from_cache, started = [], {}, {}
    for decision in decisions:
        endpoint = batch.endpoint(decision.endpoint_id)
        _log(endpoint.id, decision.model_id, "serves")
        is_alone = endpoint.num_stages == 1
        state = EndpointState.STANDALONE if is_alone else EndpointState.PIPELINED
        serving.append(Serving(endpoint.id, state, decision.is_idle))
        if endpoint.cold_start_id is not None:
            bytes_from_cache[endpoint.cold_start_id] = decision.bytes_from_cache
            started[endpoint.cold_start_id] = endpoint
    await endpoints.set_serving(batch.session, serving)
    begun = await coldstarts.set_ready(batch.session, bytes_from_cache)
    for cold_start_id, origin in begun.items():
        batch.trace_start(started[cold_start_id], origin)
    await models.clear_backoff(batch.session, {decision.model_id for decision in decisions})


async def move_endpoints(batch: BatchState, decisions: Sequence[d.Decision]) -> None:
    for decision in decisions:
        match decision:
            case d.FailEndpoint():
                await _fail(batch, decision)
            case d.DrainEndpoint():
                _log(decision.endpoint_id, decision.model_id, "drains", decision.why)
                await endpoints.set_draining(batch.session, decision.endpoint_id)
                batch.tell_nodes(decision.endpoint_id)
            case d.StopWorkers():
                await _stop(batch, decision)
            case d.FinishEndpoint():
                _log(decision.endpoint_id, decision.model_id, "has stopped")
                await endpoints.set_stopped(batch.session, decision.endpoint_id)
            case d.SkipNode():
                logger.error("nothing is planned on node %s: %s", decision.node_id, decision.error)
            case d.SkipModel():
                logger.error(
                    "nothing was decided about model %s in this round:\n%s",
                    *(decision.model_id, decision.error),
                )


async def _fail(batch: BatchState, decision: d.FailEndpoint) -> None:
    session, endpoint, cause = batch.session, batch.endpoint(decision.endpoint_id), decision.cause
    _log(endpoint.id, decision.model_id, "failed", words(cause))
    await endpoints.set_failed(session, endpoint.id, cause, decision.guilty_worker_id)
    await workers.release_workers(session, [endpoint.id])
    await _end_consolidation(batch, endpoint.id, ConsolidationState.FAILED, words(cause))
    batch.tell_nodes(endpoint.id)
    if endpoint.cold_start_id is not None:
        begun = await coldstarts.end(session, endpoint.cold_start_id, cause)
        batch.trace_start(endpoint, begun, words(cause))
    if decision.backoff is not None:
        await models.set_backoff(session, decision.model_id, decision.backoff)
    await import_again_if_damaged(session, decision)


async def _stop(batch: BatchState, decision: d.StopWorkers) -> None:
    session, endpoint = batch.session, batch.endpoint(decision.endpoint_id)
    cause = decision.cause or Cause(CauseKind.NOBODY_WAITED)
    _log(endpoint.id, decision.model_id, "ends its workers")
    await endpoints.set_draining(session, endpoint.id)
    await workers.release_workers(session, [endpoint.id])
    why = "the endpoint's workers are to end"
    await _end_consolidation(batch, endpoint.id, ConsolidationState.ABANDONED, why)
    batch.tell_nodes(endpoint.id)
    if endpoint.cold_start_id is not None:
        begun = await coldstarts.end(session, endpoint.cold_start_id, cause)
        batch.trace_start(endpoint, begun)


async def _end_consolidation(
    batch: BatchState, endpoint_id: str, state: ConsolidationState, why: str
) -> None:
    """With its endpoint, where it has open ones."""
    await end_of_endpoints(batch.session, {endpoint_id: ConsolidationEnd(state, why)})


def _log(endpoint_id: str, model_id: str, what: str, why: str = "") -> None:
    logger.info("endpoint %s of model %s %s %s", endpoint_id, model_id, what, why)
