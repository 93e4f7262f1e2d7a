"""Starts of endpoints: what fits the devices as they are now is written, all of it together."""

from collections.abc import Sequence

from services.scheduler.policy import decisions as d
from services.scheduler.rounds.batches.batch_state import BatchState
from services.scheduler.rounds.start import StartTrigger, begin_starts
from services.scheduler.store import devices, queue
from services.scheduler.store.starts import coldstarts


async def start_endpoints(batch: BatchState, decisions: Sequence[d.StartEndpoint]) -> None:
    """Locked, nobody else reserves meanwhile; what does not fit any more is dropped."""
    if not decisions:
        return
    fitting = await _fitting(batch, decisions)
    triggers = await _triggers(batch, fitting)
    traces = await begin_starts(batch.session, batch.context.before, batch.context.now, triggers)
    batch.applied.after_commit += traces
    batch.applied.changed_nodes.update(
        stage.node_id for start in fitting for stage in start.plan.stages
    )


async def _fitting(
    batch: BatchState, decisions: Sequence[d.StartEndpoint]
) -> list[d.StartEndpoint]:
    node_ids = {stage.node_id for start in decisions for stage in start.plan.stages}
    locked = await devices.lock_devices(batch.session, node_ids)
    free_bytes = {(device.node_id, device.index): device.free_bytes for device in locked}
    found = []
    for start in decisions:
        taken: dict[tuple[str, int], int] = {}
        for stage in start.plan.stages:
            place = (stage.node_id, stage.device_index)
            taken[place] = taken.get(place, free_bytes.get(place, 0)) - stage.device_bytes
        # Only of its own: another device of the node may be gone under its reservations.
        if any(left < 0 for left in taken.values()):
            batch.drop(start, "its devices have no room for it any more")
            batch.applied.is_out_of_date = True
            continue
        free_bytes |= taken
        found.append(start)
    return found


async def _triggers(
    batch: BatchState, starts: Sequence[d.StartEndpoint]
) -> list[tuple[d.StartEndpoint, StartTrigger]]:
    """Each with whose wait made it necessary."""
    request_ids = {start.request_id for start in starts if start.request_id is not None}
    arrivals = await queue.arrivals(batch.session, request_ids)
    known = {id_: batch.traces.of(id_) for id_ in request_ids}
    untraced = [id_ for id_, traceparent in known.items() if traceparent is None]
    known |= await coldstarts.traceparents_of(batch.session, untraced)
    return [
        (start, StartTrigger())
        if start.request_id is None
        else (
            start,
            StartTrigger(start.request_id, arrivals.get(start.request_id), known[start.request_id]),
        )
        for start in starts
    ]
