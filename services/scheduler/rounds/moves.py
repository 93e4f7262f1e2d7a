"""Makes an endpoint's next move: rows of workers, cold start and back-off included."""

import logging
from dataclasses import replace

from libs.common.cause_words import words
from libs.common.causes import Cause, CauseKind
from libs.common.observability import telemetry
from libs.common.states import EndpointState
from services.scheduler.policy import backoff
from services.scheduler.policy.cluster import Endpoint, Model
from services.scheduler.policy.endpoint_lifecycle import Move, Verdict
from services.scheduler.policy.node_faults import NodeFault
from services.scheduler.rounds.round import Round
from services.scheduler.store import coldstarts, endpoints, models
from services.scheduler.store.coldstarts import Begun

logger = logging.getLogger(__name__)


async def make_move(round_: Round, endpoint: Endpoint, model: Model, verdict: Verdict) -> Model:
    """Make the move; the model as it is afterwards."""
    session = round_.session
    why = "" if verdict.cause is None else words(verdict.cause)
    logger.info("endpoint %s of model %s: %s %s", endpoint.id, model.id, verdict.move, why)
    if verdict.move is Move.FAIL:
        return await _fail(round_, endpoint, model, verdict)
    if verdict.move is Move.SERVE:
        return await _serve(round_, endpoint, model)
    if verdict.move is Move.STOP:
        await endpoints.stop(session, endpoint.id)
        return model
    if endpoint.state is not EndpointState.DRAINING:
        await endpoints.set_draining(session, endpoint.id)
    if verdict.move is Move.RELEASE:
        await endpoints.release_workers(session, endpoint.id)
        if endpoint.cold_start_id is not None:
            cause = verdict.cause or Cause(CauseKind.NOBODY_WAITED)
            _trace(round_, endpoint, await coldstarts.end(session, endpoint.cold_start_id, cause))
    round_.changed_nodes.update(worker.node_id for worker in endpoint.workers)
    return model


async def _fail(round_: Round, endpoint: Endpoint, model: Model, verdict: Verdict) -> Model:
    session, cause = round_.session, verdict.cause
    assert cause is not None, "a failure has its cause"
    await endpoints.fail(session, endpoint.id, cause, verdict.guilty_id)
    await endpoints.release_workers(session, endpoint.id)
    round_.changed_nodes.update(worker.node_id for worker in endpoint.workers)
    if endpoint.cold_start_id is not None:
        begun = await coldstarts.end(session, endpoint.cold_start_id, cause)
        _trace(round_, endpoint, begun, words(cause))
    if endpoint.has_been_ready:
        return model
    if not cause.counts_against_model:
        round_.node_faults.append(_node_fault(endpoint, verdict))
        return model
    series = backoff.after_failure(model.num_failed_starts, model.backoff_remaining_s)
    await models.set_backoff(session, model.id, series)
    return replace(
        model,
        num_failed_starts=series.num_failed_starts,
        backoff_remaining_s=series.delay_s,
    )


def _node_fault(endpoint: Endpoint, verdict: Verdict) -> NodeFault:
    guilty = [worker for worker in endpoint.workers if worker.id == verdict.guilty_id]
    node_ids = frozenset(worker.node_id for worker in guilty or endpoint.workers)
    return NodeFault(endpoint.model_id, endpoint.id, node_ids)


async def _serve(round_: Round, endpoint: Endpoint, model: Model) -> Model:
    fetches = [round_.observed.fetch(w.node_id, w.fetch_id) for w in endpoint.workers]
    from_cache = sum(fetch.bytes_from_cache for fetch in fetches if fetch is not None)
    await endpoints.set_serving(round_.session, endpoint)
    round_.started.add(model.id)
    if endpoint.cold_start_id is not None:
        begun = await coldstarts.set_ready(round_.session, endpoint.cold_start_id, from_cache)
        _trace(round_, endpoint, begun)
    if model.num_failed_starts == 0:
        return model
    await models.clear_backoff(round_.session, model.id)
    return replace(model, num_failed_starts=0, backoff_remaining_s=None)


def _trace(
    round_: Round, endpoint: Endpoint, begun: Begun | None, error: str | None = None
) -> None:
    """The whole start as one span, once its end is on record."""
    if begun is None:
        return
    attributes = {
        "hydra.model": endpoint.model_id,
        "hydra.endpoint": endpoint.id,
        "hydra.nodes": ", ".join(worker.node_id for worker in endpoint.workers),
    }
    ended_at = max(round_.now, begun.started_at)
    round_.after_commit.append(
        lambda: telemetry.record_span(
            *("cold start", begun.traceparent, begun.started_at, ended_at, attributes, error),
            key=endpoint.cold_start_id,  # what its workers and fetches were given as their parent
        )
    )
