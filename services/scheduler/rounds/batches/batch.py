"""The statements and messages of a batch of decisions, for one savepoint."""

from collections.abc import Sequence

from services.scheduler.policy import decisions as d
from services.scheduler.rounds.applied import Applied
from services.scheduler.rounds.batches.batch_state import BatchState, of_kind
from services.scheduler.rounds.batches.consolidation_batch import change_consolidations
from services.scheduler.rounds.batches.endpoint_batch import move_endpoints, serve_endpoints
from services.scheduler.rounds.batches.prefetch_batch import change_prefetches
from services.scheduler.rounds.batches.request_batch import (
    assign_requests,
    count_losses,
    end_requests,
)
from services.scheduler.rounds.batches.scaling_batch import change_scaling
from services.scheduler.rounds.batches.start_batch import start_endpoints
from services.scheduler.rounds.batches.worker_batch import change_workers


async def carry_out(batch: BatchState, decisions: Sequence[d.Decision]) -> Applied:
    """Of any kind, together. Whatever it raises leaves nothing behind."""
    await change_workers(batch, decisions)
    await serve_endpoints(batch, of_kind(d.ServeEndpoint, decisions))
    await change_consolidations(batch, decisions)
    await move_endpoints(batch, decisions)
    await change_scaling(batch, decisions)
    await change_prefetches(batch, decisions)
    await start_endpoints(batch, of_kind(d.StartEndpoint, decisions))
    await assign_requests(batch, of_kind(d.AssignRequest, decisions))
    await count_losses(batch, of_kind(d.CountLoss, decisions))
    await end_requests(batch, of_kind(d.EndRequest, decisions))
    batch.applied.decisions = [x for x in decisions if id(x) not in batch.dropped]
    return batch.applied
