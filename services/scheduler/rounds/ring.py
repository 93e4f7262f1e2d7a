"""Introduces the stages of a pipeline to each other, once they have said where they listen.

Level-triggered: whoever is not linked although both its neighbours are known is linked now, by
whichever leader sees it first.
"""

from libs.common.bus.messages import Peer
from services.scheduler.policy.cluster import Endpoint, Worker
from services.scheduler.rounds.round import Round
from services.scheduler.store import peers


async def link_stages(round_: Round, fleet: tuple[Endpoint, ...]) -> None:
    for endpoint in fleet:
        if endpoint.state.can_take_requests and len(endpoint.workers) == endpoint.num_stages > 1:
            await _link(round_, endpoint.workers)


async def _link(round_: Round, ring: tuple[Worker, ...]) -> None:
    for index, worker in enumerate(ring):
        previous, following = _peer(ring[index - 1]), _peer(ring[(index + 1) % len(ring)])
        if worker.is_linked or previous is None or following is None:
            continue
        await peers.introduce(round_.session, worker.id, previous, following)
        round_.changed_nodes.add(worker.node_id)


def _peer(worker: Worker) -> Peer | None:
    """None before it has registered."""
    if worker.address is None or worker.public_key is None:
        return None
    return Peer(worker_id=worker.id, address=worker.address, public_key=worker.public_key)
