"""What rows say of a pipeline that has become one worker. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from libs.common.states import EndpointState
from services.scheduler.policy.cluster import Endpoint


def consolidated(endpoint: Endpoint, unit_digests: Sequence[str], num_layers: int) -> Endpoint:
    """A generation of its entry alone, with all units. The other workers are to end; their memory
    is reserved until they are gone."""
    entry_id = endpoint.members[0].worker_id
    alone = replace(endpoint.members[0], first_layer=0, last_layer=num_layers)
    workers = tuple(
        replace(worker, unit_digests=tuple(unit_digests))
        if worker.id == entry_id
        else replace(worker, is_desired=False)
        for worker in endpoint.workers
    )
    state = EndpointState.STANDALONE if endpoint.state.is_serving else endpoint.state
    generation = endpoint.generation + 1
    return replace(endpoint, state=state, generation=generation, members=(alone,), workers=workers)
