"""What operators asked for, and starts that somebody waits for by now, in rows."""

from collections.abc import Sequence

from services.scheduler.policy import decisions as d
from services.scheduler.rounds.batches.batch_state import BatchState, of_kind
from services.scheduler.store import endpoints, scaling
from services.scheduler.store.fetching import fetches


async def change_scaling(batch: BatchState, decisions: Sequence[d.Decision]) -> None:
    session = batch.session
    renewed = of_kind(d.RenewKeepAlive, decisions)
    await endpoints.set_idle(session, {x.endpoint_id: 0.0 for x in renewed})
    ended = of_kind(d.EndCommand, decisions)
    await scaling.end_commands(session, [x.command_id for x in ended])
    hurried = [x.endpoint_id for x in of_kind(d.HurryStart, decisions)]
    if hurried:
        await endpoints.set_asked(session, hurried)
        await fetches.set_interactive(session, hurried)
    for endpoint_id in hurried:
        batch.tell_nodes(endpoint_id)
