"""Lets workers start that were to wait for their weights, once those are there.

Level-triggered: a complete fetch that nobody was told of is found by whichever leader looks next.
"""

from libs.common.states import FetchState
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.rounds.round import Round
from services.scheduler.store import endpoints


async def launch_fetched(round_: Round, fleet: tuple[Endpoint, ...]) -> bool:
    """Whether any worker became due."""
    due = [
        worker
        for endpoint in fleet
        for worker in endpoint.workers
        if worker.is_desired and not worker.is_launch_due
        if (fetch := round_.observed.fetch(worker.node_id, worker.fetch_id)) is not None
        if fetch.state is FetchState.COMPLETE
    ]
    for worker in due:
        await endpoints.launch_worker(round_.session, worker.id)
        round_.changed_nodes.add(worker.node_id)
    return bool(due)
