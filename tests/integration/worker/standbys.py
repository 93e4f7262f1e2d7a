"""The processes of a running agent's pool."""

from libs.common.bus.messages import WorkerObserved
from services.worker.frames.process_names import STANDBY
from tests.integration.worker.agents import Cluster, RunningAgent
from tests.support.processtable import children
from tests.support.waiting import eventually


def of(agent: RunningAgent, name: str) -> set[int]:
    return children(agent.process.pid, name)


async def standby_of(agent: RunningAgent, cluster: Cluster) -> int:
    """The full pool's only process, which the agent knows to be ready."""

    def found() -> int | None:
        pids = of(agent, STANDBY)
        is_ready = bool(cluster.heartbeats) and cluster.heartbeats[-1].num_standbys == 1
        return next(iter(pids)) if is_ready and len(pids) == 1 else None

    pid = await eventually(found, timeout_s=60, poll_s=0.02, what="a standby")
    assert isinstance(pid, int)
    return pid


def origin(observed: WorkerObserved) -> str:
    return next(step.detail for step in observed.steps if step.name == "spawn")
