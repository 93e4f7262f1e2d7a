"""What decisions about workers, and about how busy endpoints are, change in rows."""

from collections.abc import Sequence

from services.scheduler.policy import decisions as d
from services.scheduler.rounds.batches.batch_state import BatchState, of_kind
from services.scheduler.store import desired, endpoints, workers
from services.scheduler.store.consolidations.ends import end_scale_ups_of_workers


async def change_workers(batch: BatchState, decisions: Sequence[d.Decision]) -> None:
    session = batch.session
    ended = of_kind(d.EndWorker, decisions)
    linked, launched = of_kind(d.ConnectWorker, decisions), of_kind(d.LaunchWorker, decisions)
    seen = [decision.observed for decision in of_kind(d.RecordWorker, decisions)]
    await workers.record_workers(session, seen)
    await workers.end_workers(session, {x.worker_id: x.cause for x in ended})
    await end_scale_ups_of_workers(session, [x.worker_id for x in ended])
    for link in linked:
        await desired.set_neighbours(session, link.worker_id, link.previous, link.following)
    await workers.launch_workers(session, [x.worker_id for x in launched])
    idle_s = {x.endpoint_id: x.idle_s for x in of_kind(d.MarkIdle, decisions)}
    await endpoints.set_idle(session, idle_s)
    await endpoints.set_busy(session, [x.endpoint_id for x in of_kind(d.MarkBusy, decisions)])
    changed = batch.applied.changed_nodes
    changed.update(x.node_id for x in linked)
    changed.update(x.node_id for x in launched)
    changed.update(x.node_id for x in ended if _is_desired(batch, x))


def _is_desired(batch: BatchState, ended: d.EndWorker) -> bool:
    endpoint = batch.context.before.endpoints.get(ended.endpoint_id)
    workers = endpoint.workers if endpoint is not None else ()
    return any(worker.id == ended.worker_id and worker.is_desired for worker in workers)
