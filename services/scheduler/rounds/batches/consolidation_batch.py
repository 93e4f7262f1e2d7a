"""Consolidations that begin, go on and end, in rows."""

import logging
from collections.abc import Sequence

from libs.common.states import ConsolidationState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.consolidation import decisions as c
from services.scheduler.policy.consolidation.effects import separated
from services.scheduler.rounds.batches.batch_state import BatchState, of_kind
from services.scheduler.store.consolidations import changes, ends
from services.scheduler.store.consolidations.ends import ConsolidationEnd

logger = logging.getLogger(__name__)


async def change_consolidations(batch: BatchState, decisions: Sequence[d.Decision]) -> None:
    """Their nodes are told by their desired state: an entry of its target, the others of a pipeline
    that has become one worker of their end."""
    given_up = of_kind(c.AbandonConsolidation, decisions)
    ended = {
        x.consolidation_id: ConsolidationEnd(ConsolidationState.ABANDONED, x.why, x.counts)
        for x in given_up
    }
    await ends.end(batch.session, ended)
    copying = of_kind(c.RecordConsolidation, decisions)
    await changes.set_copying(batch.session, [x.consolidation_id for x in copying])
    for done in of_kind(c.CompleteConsolidation, decisions):
        await changes.complete(batch.session, done)
        batch.tell_nodes(done.endpoint_id)
        _log(done, "is complete", done.why)
    for own in of_kind(c.SeparateWorker, decisions):
        await changes.separate(batch.session, own)
        batch.separated[own.child_id] = _separated(batch, own)
        batch.applied.changed_nodes.add(own.node_id)
        _log(own, f"is complete, as endpoint {own.child_id}", own.why)
    for begun in of_kind(c.BeginConsolidation, decisions):
        await changes.begin(batch.session, begun)
        _log(begun, "begins", begun.why)
    changed = (*given_up, *of_kind(c.BeginConsolidation, decisions))
    batch.applied.changed_nodes.update(x.node_id for x in changed)
    for end in given_up:
        _log(end, "is abandoned", end.why)


def _separated(batch: BatchState, decision: c.SeparateWorker) -> Endpoint:
    """As the decisions that follow in this batch may speak of it."""
    parent = batch.endpoint(decision.endpoint_id)
    worker = next(worker for worker in parent.workers if worker.id == decision.worker_id)
    return separated(parent, worker, decision)


def _log(decision: c.ConsolidationDecision, what: str, why: str) -> None:
    logger.info(
        "consolidation %s of endpoint %s of model %s %s: %s",
        *(decision.consolidation_id, decision.endpoint_id, decision.model_id, what, why),
    )
