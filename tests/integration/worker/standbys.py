"""The processes of a running agent's pool."""

from libs.common.messages import WorkerObserved
from services.worker.processnames import STANDBY
from tests.integration.worker.agents import RunningAgent
from tests.support.processtable import children
from tests.support.waiting import eventually


def of(agent: RunningAgent, name: str) -> set[int]:
    return children(agent.process.pid, name)


async def standby_of(agent: RunningAgent) -> int:
    """The full pool's only process."""
    await eventually(lambda: of(agent, STANDBY), timeout_s=60, poll_s=0.02, what="a standby")
    (pid,) = of(agent, STANDBY)
    return pid


def origin(observed: WorkerObserved) -> str:
    return next(step.detail for step in observed.steps if step.name == "spawn")
