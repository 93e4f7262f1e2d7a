"""Two stages of one endpoint on one agent, introduced to each other as the scheduler does it."""

from libs.common.bus.messages import LayerRange, Peer, WorkerObserved, WorkerSpec
from libs.common.states import MemberRole, WorkerState
from tests.integration.worker.agents import Cluster


def stages(cluster: Cluster) -> list[WorkerSpec]:
    return [
        cluster.spec(
            f"stage-{index}",
            endpoint_id="endpoint-of-pipeline",
            role=MemberRole.ENTRY if index == 0 else MemberRole.FOLLOWER,
            stage_index=index,
            num_stages=2,
            layers=LayerRange(first_layer=index, last_layer=index + 1),
            kv_tokens=600,
        )
        for index in range(2)
    ]


def peer(observed: WorkerObserved) -> Peer:
    assert observed.address is not None
    return Peer(
        worker_id=observed.worker_id, address=observed.address, public_key=observed.public_key
    )


async def introduce(cluster: Cluster, specs: list[WorkerSpec]) -> None:
    """As the scheduler does, once every stage has registered."""
    peers = [
        peer(await cluster.until_worker(spec.worker_id, WorkerState.REGISTERED)) for spec in specs
    ]
    await cluster.desire(
        *(
            spec.model_copy(update={"previous": peers[index - 1], "next": peers[index - 1]})
            for index, spec in enumerate(specs)
        )
    )
